"""Forward kinematics against OpenSim: 1,000 random poses with random scales on each model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from opensim_truth import Truth, random_poses, random_scales, shipped_model

from pose2sim_biokin.io.osim import write_osim
from pose2sim_biokin.skeleton import ForwardKinematics, Skeleton, load_skeleton

MODELS = ("rajagopal2016", "Model_Pose2Sim_simple.osim", "Model_Pose2Sim_muscles_flex.osim")
SUBJECTS, POSES = 10, 100
TOLERANCE = 1e-5  # m and rad


@pytest.fixture(scope="module", params=MODELS)
def case(request, tmp_path_factory) -> tuple[Path, Skeleton]:
    folder = tmp_path_factory.mktemp("model")
    if request.param == "rajagopal2016":
        # The file comes from OpenSim's API, the skeleton from the table.
        skeleton = load_skeleton()
        return write_osim(folder / "model.osim", skeleton), skeleton
    path = shipped_model(request.param, folder)
    return path, load_skeleton(path)


def rotation_angle(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angle between rotations, rad; from the chord, which is exact where the arc cosine is not."""
    chord = np.linalg.norm(a - b, axis=(-2, -1)) / (2.0 * np.sqrt(2.0))
    return 2.0 * np.arcsin(np.clip(chord, 0.0, 1.0))


def test_agrees_over_random_poses_and_scales(case):
    path, skeleton = case
    rng = np.random.default_rng(2016)
    double, single = ForwardKinematics(skeleton, torch.float64), ForwardKinematics(skeleton)
    # Locked coordinates move here like all others.
    unlocked = ForwardKinematics(replace(skeleton, locked=np.zeros_like(skeleton.locked)), torch.float64)
    worst = {}
    for _ in range(SUBJECTS):
        scales = random_scales(skeleton, rng)
        truth = Truth(path, skeleton, scales)
        values = unlocked.constrain(torch.tensor(random_poses(skeleton, POSES, rng))).numpy()
        expected = []
        for pose in values:
            truth.set(pose)
            expected.append((*truth.frames(), *truth.points()))
        rotation, *expected_points = map(np.array, zip(*expected, strict=True))
        # Whatever is given for a dependent coordinate is ignored.
        values[:, skeleton.dependent] = rng.normal(size=values[:, skeleton.dependent].shape)
        for kinematics in (double, single):
            q, s = torch.tensor(values), torch.tensor(scales)
            frames = kinematics(q, s)
            points = (
                frames.position,
                kinematics.joint_centers(frames, s),
                kinematics.mass_centers(frames, s),
                kinematics.markers(frames, s),
            )
            errors = {"rotation": rotation_angle(frames.rotation.double().numpy(), rotation)}
            for what, found, wanted in zip(
                ("position", "joint centre", "mass centre", "marker"), points, expected_points, strict=True
            ):
                assert found.shape == wanted.shape
                errors[what] = np.linalg.norm(found.double().numpy() - wanted, axis=-1)
            for what, error in errors.items():
                key = (what, str(kinematics.dtype))
                worst[key] = max(worst.get(key, 0.0), float(error.max(initial=0.0)))
    assert len(skeleton.marker_names) > 20
    assert max(worst.values()) < TOLERANCE, worst
    assert max(error for (_, kind), error in worst.items() if kind == "torch.float64") < 1e-9, worst


def test_coordinates_bodies_and_markers_are_opensims(case):
    path, skeleton = case
    truth = Truth(path, skeleton, unlock=False)
    model = truth.model
    coordinates, bodies = model.getCoordinateSet(), model.getBodySet()
    assert skeleton.coordinate_names == tuple(
        coordinates.get(i).getName() for i in range(coordinates.getSize())
    )
    assert skeleton.body_names == tuple(bodies.get(i).getName() for i in range(bodies.getSize()))
    assert len(skeleton.marker_names) == model.getMarkerSet().getSize()
    for i, coordinate in enumerate(truth.coordinates):
        assert skeleton.locked[i] == coordinate.getDefaultLocked()
        assert skeleton.coordinate_defaults[i] == pytest.approx(coordinate.getDefaultValue(), abs=1e-9)
        assert skeleton.coordinate_ranges[i] == pytest.approx(
            [coordinate.getRangeMin(), coordinate.getRangeMax()], abs=1e-9
        )
    assert skeleton.mass == pytest.approx(model.getTotalMass(truth.state), rel=1e-9)


def test_couplers_and_locks_are_opensims(case):
    path, skeleton = case
    truth = Truth(path, skeleton, unlock=False)
    kinematics = ForwardKinematics(skeleton, torch.float64)
    poses = random_poses(skeleton, 10, np.random.default_rng(5))
    for pose in poses:
        expected = truth.set(pose, assemble=True)
        # The assembly may also move independent coordinates: go by the values that hold.
        free = ~(skeleton.locked | skeleton.dependent)
        given = np.where(free, expected, pose)
        found = kinematics.constrain(torch.tensor(given)).numpy()
        assert found == pytest.approx(expected, abs=TOLERANCE)
