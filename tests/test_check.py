"""The check against masks that are known: of the body itself, moved, mirrored, or another person's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pose2sim_biokin.check import FRAMES, LIMBS, JudgedView, check_columns, check_motion, check_summary
from pose2sim_biokin.motion import Motion
from pose2sim_biokin.skeleton import ForwardKinematics, load_skeleton
from pose2sim_biokin.skeleton.rotations import ground_to_world
from pose2sim_biokin.vision.camera import Camera
from pose2sim_biokin.vision.crops import look_rotation
from pose2sim_biokin.vision.masks import PackedMask

FPS = 30.0


@pytest.fixture(scope="module")
def skeleton():
    return load_skeleton()


def _camera(name, angle_deg, distortion=(0.05, -0.02, 0.0, 0.0)):
    angle = np.deg2rad(angle_deg)
    center = np.array([4 * np.cos(angle), 4 * np.sin(angle), 1.3])
    R = look_rotation(np.array([0.0, 0.0, 0.95]) - center)
    K = np.array([[520.0, 0, 320], [0, 520.0, 240], [0, 0, 1]])
    return Camera(name, 640, 480, K, np.array(distortion), R, -R @ center)


def _motion(skeleton, count=6, **angles):
    q = np.zeros((count, len(skeleton.coordinate_names)))
    given = {
        "pelvis_ty": 0.95,
        "hip_flexion_r": 0.5,
        "knee_angle_r": 0.6,
        "arm_add_l": -0.9,
        "elbow_flex_r": 1.2,
    }
    for name, value in {**given, **angles}.items():
        q[:, skeleton.coordinate_index(name)] = value
    q[:, skeleton.coordinate_index("pelvis_rotation")] += 0.05 * np.arange(count)
    scales = np.ones((len(skeleton.body_names), 3))
    scales[:, 1] = 1.04
    return Motion(np.arange(count) / FPS, q, scales, skeleton.name)


def _masks(motion, skeleton, camera):
    """Masks of the open body of the training package, drawn by its rasteriser: none of the product's code."""
    from odah.bodies.export_surface import mean_adult
    from odah.bodies.open_body import OpenBody
    from odah.render.rasterizer import rasterize

    body = _masks.body = getattr(_masks, "body", None) or OpenBody(population="adults")
    subject = _masks.subject = getattr(_masks, "subject", None) or mean_adult(body)
    scales = torch.as_tensor(motion.scales)
    fk = ForwardKinematics(skeleton, dtype=torch.float64)
    # the subject's skin, carried over to the motion's scales body by body
    frames = fk(torch.as_tensor(motion.coordinates), scales)
    local = (subject.bind_rotation.double()[:, None] @ subject.vertices.double()[..., None])[..., 0]
    local = (local + subject.bind_position.double()[:, None]) * (scales / subject.scales.double())[:, None]
    carried = torch.einsum("tbij,bvj->tbvi", frames.rotation, local) + frames.position[:, :, None]
    vertices = ground_to_world(torch.einsum("vb,tbvi->tvi", body.weights.double(), carried))
    plain = replace(camera, distortion=np.zeros(4))
    local = torch.as_tensor(plain.world_to_camera(vertices.numpy())).float()
    K = torch.as_tensor(plain.K).float().expand(len(local), 3, 3)
    drawn = rasterize(local, body.faces, K, camera.height, camera.width).mask
    return {row: PackedMask.pack(mask) for row, mask in enumerate(drawn.numpy())}


@pytest.fixture(scope="module")
def truth(skeleton):
    """A motion, three cameras (the last unused) and the masks that another program drew of it."""
    motion = _motion(skeleton)
    cameras = [_camera(f"cam{i}", angle, distortion=(0.0,)) for i, angle in enumerate((0, 80, 150))]
    return motion, [JudgedView(c, _masks(motion, skeleton, c), k < 2) for k, c in enumerate(cameras)]


def test_the_truth_fits_everywhere(skeleton, truth):
    motion, views = truth
    stages = []
    check = check_motion(motion, skeleton, FPS, views, progress=lambda *a: stages.append(a))
    assert stages[-1] == ("Checking against the masks", 18, 18)
    for view in check.views:
        assert view.rows.tolist() == list(range(6))
        assert view.iou.min() > 0.95 and view.joints_inside.min() > 0.94
        assert set(view.limbs) == set(LIMBS) and min(v.min() for v in view.limbs.values()) >= 0.9
    summary = check_summary(check, np.arange(10, 16))
    assert summary["iou_used"] > 0.95 and summary["iou_unused"] > 0.95
    assert [v["used"] for v in summary["views"].values()] == [True, True, False]
    assert 10 <= summary["views"]["cam0"]["iou_worst_frame"] <= 15
    assert summary["flips"] == summary["facing_jumps"] == 0 and summary["backwards_share"] != 1


def test_a_wrong_forearm_is_found_by_its_limb(skeleton, truth):
    motion, views = truth
    wrong = _motion(skeleton, elbow_flex_r=0.1)
    check = check_motion(wrong, skeleton, FPS, views)
    summary = check_summary(check, np.arange(6))
    worst = summary["worst_limb"]  # the third camera sees it before the trunk
    assert worst["limb"] == "forearm_r" and worst["camera"] == "cam1" and worst["inside"] < 0.6
    assert all(v["limbs"]["thigh_l"] > 0.95 for v in summary["views"].values())


def test_depth_that_is_wrong_shows_in_the_other_camera(skeleton, truth):
    """Moved by 30 cm along the first camera's axis: that one hardly sees it, the others do."""
    motion, views = truth
    q = motion.coordinates.copy()
    direction = views[0].camera.view_direction
    q[:, skeleton.coordinate_index("pelvis_tz")] += 0.3 * direction[0]  # world X is ground Z
    q[:, skeleton.coordinate_index("pelvis_tx")] += 0.3 * direction[1]
    first, second, _ = check_motion(replace(motion, coordinates=q), skeleton, FPS, views).views
    assert first.iou.mean() > 0.75 and second.iou.mean() < 0.5


def test_rows_without_mask_or_pose_are_not_compared(skeleton, truth):
    motion, views = truth
    q = motion.coordinates.copy()
    q[2] = np.nan
    partly = JudgedView(views[0].camera, {k: m for k, m in views[0].masks.items() if k != 4}, True)
    nothing = JudgedView(views[2].camera, {}, False)
    check = check_motion(replace(motion, coordinates=q), skeleton, FPS, [partly, nothing])
    assert check.views[0].rows.tolist() == [0, 1, 3, 5] and len(check.views[1].rows) == 0
    columns = check_columns(check)
    assert np.isfinite(columns["iou"]["cam0"]).tolist() == [True, True, False, True, False, True]
    summary = check_summary(check, np.arange(6))
    assert np.isnan(summary["iou_unused"]) and summary["views"]["cam2"]["frames"] == 0
    assert summary["worst_limb"]["camera"] == "cam0"


def test_long_trials_are_sampled(skeleton, truth):
    motion, views = truth
    count = FRAMES + 50
    long = _motion(skeleton, count=count, pelvis_rotation=0.0)
    q = np.repeat(motion.coordinates[:1], count, axis=0)
    masks = dict.fromkeys(range(count), views[0].masks[0])
    check = check_motion(
        replace(long, coordinates=q), skeleton, FPS, [JudgedView(views[0].camera, masks, True)]
    )
    rows = check.views[0].rows
    assert len(rows) == FRAMES and rows[0] == 0 and rows[-1] == count - 1
    assert np.ptp(check.views[0].iou) < 1e-9


def test_a_skeleton_without_skin_is_checked_by_its_joints(skeleton, truth):
    import Pose2Sim

    path = f"{Pose2Sim.__path__[0]}/OpenSim_Setup/Model_Pose2Sim_simple.osim"
    other = load_skeleton(path)
    q = np.zeros((6, len(other.coordinate_names)))
    q[:, other.coordinate_index("pelvis_ty")] = 0.95
    motion = Motion(np.arange(6) / FPS, q, np.ones((len(other.body_names), 3)), path)
    check = check_motion(motion, other, FPS, truth[1][:1])
    assert np.isnan(check.views[0].iou).all() and check.views[0].joints_inside.mean() > 0.5
    assert np.isfinite(check.feet.floor_m)
