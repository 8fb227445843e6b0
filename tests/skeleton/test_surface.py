"""The body surface follows the skeleton: rigid where one body moves it, scaled as OpenSim scales."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.skeleton import ForwardKinematics, load_skeleton
from pose2sim_biokin.skeleton.surface import ASSET, load_surface


@pytest.fixture(scope="module")
def skeleton():
    return load_skeleton()


@pytest.fixture(scope="module")
def surface(skeleton):
    return load_surface(skeleton)


@pytest.fixture(scope="module")
def fk(skeleton):
    return ForwardKinematics(skeleton, dtype=torch.float64)


def _random(skeleton, count, seed=0):
    rng = np.random.default_rng(seed)
    low, high = skeleton.coordinate_ranges.T
    q = rng.uniform(0.6 * low, 0.6 * high, (count, len(low)))
    scales = rng.uniform(0.85, 1.15, (count, len(skeleton.body_names), 3))
    return torch.as_tensor(q), torch.as_tensor(scales)


def test_a_compact_closed_mesh_that_winds_outwards(surface, skeleton, fk):
    assert ASSET.stat().st_size < 300 * 1024 and 1500 <= surface.weights.shape[0] <= 3500
    edges = np.concatenate([surface.faces[:, [i, (i + 1) % 3]] for i in range(3)])
    directed = {tuple(edge) for edge in edges.tolist()}
    assert len(directed) == len(edges) and all((b, a) in directed for a, b in directed)
    q = torch.zeros(len(skeleton.coordinate_names), dtype=torch.float64)
    vertices = surface.pose(fk(q)).numpy()
    a, b, c = (vertices[surface.faces[:, k]] for k in range(3))
    assert 0.045 < (a * np.cross(b, c)).sum() / 6 < 0.1  # m^3 of a person


def test_skin_of_one_body_moves_and_scales_with_it(surface, skeleton, fk):
    """x = R (s * x_unscaled) + p, worked out here for the vertices that a single body moves."""
    q, scales = _random(skeleton, 3)
    plain = fk(torch.zeros_like(q[0]))
    rest = surface.pose(plain)
    frames = fk(q, scales)
    posed = surface.pose(frames, scales)
    assert posed.shape == (3, len(surface.weights), 3)
    checked = 0
    for body in range(len(skeleton.body_names)):
        own = np.flatnonzero(surface.weights[:, body] > 0.9999)
        if len(own) == 0:
            continue
        unscaled = (rest[own] - plain.position[body]) @ plain.rotation[body]
        for n in range(3):
            expected = (unscaled * scales[n, body]) @ frames.rotation[n, body].T + frames.position[n, body]
            torch.testing.assert_close(posed[n, own], expected, atol=2e-4, rtol=0)
        checked += len(own)
    assert checked > 0.3 * len(surface.weights)


def test_the_file_is_that_of_the_open_body(surface, skeleton, fk):
    """The training package's own skinning of the mean adult gives the same skin: else export it again."""
    from odah.bodies.export_surface import mean_adult
    from odah.bodies.open_body import OpenBody

    body = OpenBody(population="adults")
    subject = mean_adult(body)
    q, _ = _random(skeleton, 1, seed=3)
    scales = subject.scales.double()
    ours = surface.pose(fk(q[0], scales), scales)
    theirs = body.pose(subject, q[0].float()).double()
    assert torch.cdist(ours, theirs).min(1).values.max() < 0.003


def test_soles_are_under_the_feet(surface, skeleton, fk):
    q = torch.zeros(len(skeleton.coordinate_names), dtype=torch.float64)
    vertices = surface.pose(fk(q))
    lowest = vertices[:, 1].min()
    for name, index in surface.soles.items():
        foot = fk(q).position[skeleton.body_index(f"calcn_{name[-1]}")]
        assert vertices[index, 1] < lowest + 0.02
        ahead = vertices[index, 0] - foot[0]
        assert (ahead > 0.1) if name.startswith("toe") else (ahead < 0.05)
        assert (vertices[index, 2] - foot[2]).abs() < 0.05
    assert set(surface.soles) == {"heel_r", "toe_r", "heel_l", "toe_l"}


def test_gradients_reach_angles_and_scales(surface, skeleton, fk):
    q, scales = (x[0].requires_grad_() for x in _random(skeleton, 1))
    surface.pose(fk(q, scales), scales).square().mean().backward()
    assert q.grad.abs().sum() > 0 and (scales.grad.abs().sum(-1) > 0).sum() > 15


def test_what_cannot_be_used_is_said(skeleton, tmp_path):
    import Pose2Sim

    other = load_skeleton(f"{Pose2Sim.__path__[0]}/OpenSim_Setup/Model_Pose2Sim_simple.osim")
    with pytest.raises(BiokinError, match="no body named patella_r"):
        load_surface(other)
    (tmp_path / "broken.npz").write_bytes(b"no surface")
    with pytest.raises(BiokinError, match=r"broken\.npz: cannot be read"):
        load_surface(skeleton, tmp_path / "broken.npz")
