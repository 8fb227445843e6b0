"""Forward kinematics as a module: gradients, batch shapes, dtypes; the skeleton's table."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.skeleton import ForwardKinematics, load_skeleton
from pose2sim_biokin.skeleton.functions import function_terms, simm_spline
from pose2sim_biokin.skeleton.model import DATA_DIR, table_to_skeleton

SKELETON = load_skeleton()
NB, NC, NM = 22, 39, 66


@pytest.fixture(scope="module")
def kinematics() -> ForwardKinematics:
    return ForwardKinematics(SKELETON, torch.float64)


def random_inputs(*batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    q = 0.8 * torch.randn(*batch, NC, generator=generator, dtype=torch.float64)
    s = 0.8 + 0.4 * torch.rand(*batch, NB, 3, generator=generator, dtype=torch.float64)
    return q, s


def test_sizes_of_the_built_in_skeleton():
    assert (len(SKELETON.body_names), len(SKELETON.coordinate_names)) == (NB, NC)
    assert len(SKELETON.marker_names) == NM
    assert SKELETON.mass == pytest.approx(75.337)
    assert SKELETON.locked.sum() == 8 and SKELETON.dependent.sum() == 2
    assert SKELETON.is_rotational.sum() == NC - 3
    with pytest.raises(ValueError):
        SKELETON.mass_centers[0, 0] = 1.0


def test_gradients_match_finite_differences(kinematics):
    q, s = (tensor.requires_grad_() for tensor in random_inputs(2))
    # Beside the knots of the knee's splines, where the third derivative jumps, all is smooth.
    q.data[:, [SKELETON.coordinate_index(f"knee_angle_{side}") for side in "rl"]] = 0.6

    # Thirty random mixtures of all outputs: as telling as each by itself, and quicker.
    sizes = (NB * 9, 2 * NB * 3, NM * 3)
    mixtures = torch.randn(sum(sizes), 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def everything(coordinates, scales):
        frames = kinematics(coordinates, scales)
        outputs = (
            frames.rotation.flatten(-3),
            kinematics.keypoints(frames, scales).flatten(-2),
            kinematics.markers(frames, scales).flatten(-2),
        )
        return torch.cat(outputs, -1) @ mixtures

    assert torch.autograd.gradcheck(everything, (q, s))


def test_dependent_coordinates_pass_no_gradient_and_knees_do(kinematics):
    q, _ = random_inputs()
    q.requires_grad_()
    kinematics(q).position[SKELETON.body_index("patella_r")].sum().backward()
    assert q.grad[SKELETON.coordinate_index("knee_angle_r_beta")] == 0
    assert q.grad[SKELETON.coordinate_index("knee_angle_r")] != 0
    assert q.grad[SKELETON.coordinate_index("knee_angle_l")] == 0


def test_batch_shapes_broadcast(kinematics):
    q, s = random_inputs(2, 3)
    frames = kinematics(q, s)
    assert frames.rotation.shape == (2, 3, NB, 3, 3) and frames.position.shape == (2, 3, NB, 3)
    assert kinematics.keypoints(frames, s).shape == (2, 3, 2 * NB, 3)
    assert kinematics.markers(frames, s).shape == (2, 3, NM, 3)
    one = kinematics(q[1, 2], s[1, 2])
    assert torch.allclose(one.position, frames.position[1, 2], atol=1e-14)
    # One set of scales a sequence, one for all, and one pose at many scales.
    per_sequence = kinematics(q, s[:, :1])
    assert torch.allclose(per_sequence.position[1, 2], kinematics(q[1, 2], s[1, 0]).position, atol=1e-14)
    for_all = kinematics(q, s[0, 0])
    assert torch.allclose(for_all.position[1, 2], kinematics(q[1, 2], s[0, 0]).position, atol=1e-14)
    many = kinematics(q[0, 0], s)
    assert many.position.shape == (2, 3, NB, 3)
    assert torch.allclose(many.position[1, 1], kinematics(q[0, 0], s[1, 1]).position, atol=1e-14)
    assert torch.equal(kinematics(q).position, kinematics(q, torch.ones(NB, 3)).position)
    assert kinematics(q[:0]).position.shape == (0, 3, NB, 3)


def test_wrong_shapes_are_refused(kinematics):
    q, s = random_inputs(2)
    with pytest.raises(ValueError, match="39"):
        kinematics(q[..., :36])
    with pytest.raises(ValueError, match="22"):
        kinematics(q, s[..., :20, :])


def test_joint_centers_meet_the_parent_frame(kinematics):
    """A hip's centre lies at the pelvis's scaled offset, whatever the pose."""
    q, s = random_inputs(5)
    frames = kinematics(q, s)
    centers = kinematics.joint_centers(frames, s)
    pelvis, femur = SKELETON.body_index("pelvis"), SKELETON.body_index("femur_r")
    offset = torch.tensor([-0.056276, -0.07849, 0.07726], dtype=torch.float64) * s[:, pelvis]
    expected = frames.position[:, pelvis] + torch.einsum("bij,bj->bi", frames.rotation[:, pelvis], offset)
    assert torch.allclose(centers[:, femur], expected, atol=1e-12)


def test_autocast_and_half_inputs_do_not_reduce_precision(kinematics):
    single = ForwardKinematics(SKELETON)
    q, s = random_inputs(4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        frames = single(q, s)
        markers = single.markers(frames, s)
    assert markers.dtype == torch.float32
    expected = kinematics.markers(kinematics(q, s), s)
    assert torch.allclose(markers.double(), expected, atol=1e-5)


def test_moves_between_types_as_a_module(kinematics):
    converted = ForwardKinematics(SKELETON, torch.float64).float()
    q, s = random_inputs(3)
    assert converted.dtype == torch.float32 and converted(q, s).position.dtype == torch.float32
    assert torch.allclose(converted(q, s).position.double(), kinematics(q, s).position, atol=1e-5)


def test_nothing_goes_into_a_checkpoint():
    assert ForwardKinematics(SKELETON).state_dict() == {}


def test_index_of_unknown_names():
    with pytest.raises(BiokinError, match="femur_x.*pelvis"):
        SKELETON.body_index("femur_x")
    with pytest.raises(BiokinError, match="no coordinate"):
        SKELETON.coordinate_index("neck")
    with pytest.raises(BiokinError, match="no marker"):
        SKELETON.marker_index("nose")


def changed_table(change) -> dict:
    table = json.loads((DATA_DIR / "rajagopal2016.json").read_text(encoding="utf-8"))
    change(table)
    return table


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t["joints"].pop(3), "patella_r"),
        (lambda t: t["joints"][1]["child"].update(body="tibia_r"), "already hangs"),
        (lambda t: t["joints"][1]["parent"].update(body="tibia_r"), "not connected to ground"),
        (lambda t: t["joints"][1]["parent"].update(body="tail"), "tail"),
        (lambda t: t["joints"][1]["transform_axes"].pop(), "6 transform axes"),
        (lambda t: t["joints"][4]["coordinates"].clear(), "PinJoint has 1"),
        (lambda t: t["markers"][1].update(name="RACR"), "RACR"),
        (lambda t: t["couplers"][1].update(dependent="knee_angle_r_beta"), "two couplers"),
        (lambda t: t["couplers"][0].update(independent=["knee_angle_r_beta"]), "circle"),
        (lambda t: t["couplers"][0].update(function={"sine": 1}), "sine"),
        (lambda t: t["couplers"][0].update(function={"linear": [1.0]}), "needs 2"),
    ],
)
def test_contradictions_in_a_table_are_named(change, words):
    with pytest.raises(BiokinError, match=words):
        table_to_skeleton(changed_table(change), "changed")


def test_spline_of_a_cubic_is_the_cubic():
    """Its end conditions are exact for cubics; beyond the ends it goes on straight."""
    x = np.array([-1.0, -0.2, 0.5, 1.1, 2.0])
    spline = simm_spline(x, x**3 - 2.0 * x)
    inside = np.linspace(-1.0, 2.0, 50)
    assert spline(inside) == pytest.approx(inside**3 - 2.0 * inside)
    assert spline(np.array([3.0])) == pytest.approx([8.0 - 4.0 + (3.0 * 4.0 - 2.0)])
    assert spline(np.array([-2.0])) == pytest.approx([-1.0 + 2.0 - (3.0 - 2.0)])


def test_points_of_a_function_must_ascend():
    with pytest.raises(BiokinError, match="ascending"):
        function_terms({"piecewise_linear": {"x": [0, 0], "y": [1, 2]}}, [0], "here")
    with pytest.raises(BiokinError, match="one coordinate"):
        function_terms({"polynomial": [1, 2]}, [0, 1], "here")
