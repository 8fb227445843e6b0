"""Train a body's registration: joint regressor and marker set, over many shapes and poses.

    python -m odah.bodies.regressor [--subjects 80] [--poses 16] [--output FILE]

writes the built-in body's `data/open_registration.npz` and prints its errors on subjects and motions that it
has not seen. Any other body is registered by `train_registration(body)` when it is first needed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from odah.bodies.registration import ASSET, Registration, read_registration
from odah.bodies.sites import EXTRA_MARKERS, INNER_MARKERS, open_body_sites
from odah.motions.sampler import sample_motion
from pose2sim_biokin.io.atomic import atomic_path
from pose2sim_biokin.skeleton import BodyFrames

# A joint's vertices: chosen among the nearest ones, fewer and fewer, by weight.
_CANDIDATES = 200
_KEPT = 40
# Ridge, m: how far a vertex may stray from what the examples show. A small one fits the examples better and
# amplifies what they do not show.
_VERTEX_NOISE_M = 0.002
# A marker sits on skin that follows its body at least this much, where there is such skin.
_LEAST_WEIGHT = 0.8
# Freedom in choosing a vertex around an anatomical site where the skin right there slides over the bone, and
# around the skin nearest to the published place of a cluster marker; cluster markers stay apart from others.
_SITE_RADIUS_M = {"RACR": 0.030}
_CLUSTER_RADIUS_M, _APART_M = 0.050, 0.030
_FPS = 4.0  # poses of a motion are a quarter of a second apart


@dataclass(frozen=True, eq=False)
class Examples:
    """N posed meshes: vertices (N,V,3) in ground, body frames (N,22), scales (N,22,3), joints (N,22,3); m."""

    vertices: Tensor
    frames: BodyFrames
    scales: Tensor
    joints: Tensor


@torch.no_grad()
def sample_examples(body, seeds: Iterable[int], poses: int, split: str = "train") -> Examples:
    """Random subjects in `poses` random poses each.

    Args:
        body: has kinematics, sample_subject(seed) and pose(subject, coordinates).
        split: "test" also draws from actions that "train" never does.
    """
    vertices, rotation, position, scales, joints = [], [], [], [], []
    kinematics = body.kinematics
    for seed in seeds:
        subject = body.sample_subject(seed)
        rng = np.random.default_rng([seed, 0x4E6])
        motion = sample_motion(rng, split, [], poses, kinematics, _FPS)
        q = torch.as_tensor(motion.coordinates, dtype=torch.float32)
        frames = kinematics(q, subject.scales)
        vertices.append(body.pose(subject, q))
        rotation.append(frames.rotation)
        position.append(frames.position)
        scales.append(subject.scales.expand(poses, -1, -1))
        joints.append(kinematics.joint_centers(frames, subject.scales))
    frames = BodyFrames(torch.cat(rotation), torch.cat(position))
    return Examples(torch.cat(vertices), frames, torch.cat(scales), torch.cat(joints))


def joined(first: Examples, second: Examples) -> Examples:
    """Both, one after the other."""
    rotation, position = map(torch.cat, zip(first.frames, second.frames, strict=True))
    return Examples(
        torch.cat([first.vertices, second.vertices]),
        BodyFrames(rotation, position),
        torch.cat([first.scales, second.scales]),
        torch.cat([first.joints, second.joints]),
    )


def fit_joints(examples: Examples) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (22,K) and weights (22,K) whose sums are the joint centres.

    Weights a of a joint at j minimise mean |sum a_i (v_i - j)|^2 + noise^2 |a|^2 with sum a = 1, in closed
    form: a is (G + noise^2 I)^-1 1 up to its length, with G the Gram matrix of v_i - j. The vertices with the
    smallest weights are dropped in rounds.
    """
    vertices = examples.vertices.double().numpy()
    joints = examples.joints.double().numpy()
    chosen = min(_KEPT, vertices.shape[1])
    index = np.zeros((joints.shape[1], chosen), dtype=np.int64)
    weights = np.zeros((joints.shape[1], chosen))
    for j in range(joints.shape[1]):
        sample = vertices[::8] - joints[::8, j, None]
        near = np.argsort((sample**2).sum(-1).mean(0), kind="stable")[:_CANDIDATES]
        offset = vertices[:, near] - joints[:, j, None]  # (N, n, 3)
        rows = offset.transpose(0, 2, 1).reshape(-1, len(near))
        gram = rows.T @ rows / len(vertices)
        while True:
            ridge = gram + _VERTEX_NOISE_M**2 * np.eye(len(near))
            a = np.linalg.solve(ridge, np.ones(len(near)))
            a /= a.sum()
            if len(near) <= chosen:
                break
            keep = np.sort(np.argsort(-np.abs(a))[: max(chosen, int(0.7 * len(near)))])
            near, gram = near[keep], gram[np.ix_(keep, keep)]
        index[j], weights[j] = near, a
    return index, weights


def body_locations(examples: Examples, vertices: Tensor, bodies: Tensor) -> Tensor:
    """(N,n,3) vertices (n,) in the frames of their bodies (n,), unscaled, m."""
    points = examples.vertices[:, vertices] - examples.frames.position[:, bodies]
    local = (examples.frames.rotation[:, bodies].transpose(-1, -2) @ points[..., None])[..., 0]
    return local / examples.scales[:, bodies]


def spread(examples: Examples, vertices: Tensor, body: int) -> Tensor:
    """(n,) RMS distance, m, of vertices from their own mean place on a body, over shapes and poses."""
    bodies = torch.full((len(vertices),), body)
    local = body_locations(examples, vertices, bodies)
    off = (local - local.mean(0)) * examples.scales[:, bodies]
    return off.square().sum(-1).mean(0).sqrt()


def nearest_vertices(
    examples: Examples, weights: Tensor, bodies: Tensor, locations: Tensor, subset: Tensor | None = None
) -> Tensor:
    """(M,) vertices that stay nearest, in the mean square, to points (M,3) of bodies (M,).

    Only vertices that follow the body (by weights (V,22)) are taken, where there are any.
    """
    found = []
    for body, location in zip(bodies.tolist(), locations, strict=True):
        point = (examples.frames.rotation[:, body] * (location * examples.scales[:, body])[:, None]).sum(-1)
        point = point + examples.frames.position[:, body]
        error = (examples.vertices - point[:, None]).square().sum(-1).mean(0)
        follows = weights[:, body] >= min(_LEAST_WEIGHT, float(weights[:, body].max()))
        found.append(int(torch.where(follows, error, torch.inf).argmin()))
    return torch.tensor(found)


def calibrate(registration: Registration, examples: Examples) -> Registration:
    """The registration with every marker at the mean place of its vertex on its body."""
    local = body_locations(examples, registration.marker_vertices, registration.marker_bodies)
    return replace(registration, marker_locations=local.mean(0))


def _site_vertex(examples: Examples, mean: Tensor, site: Tensor, name: str, body: int) -> int:
    """The vertex of the mean mesh (V,3) for an anatomical marker at a site (3,).

    A coarse mesh has no vertex right at every site: of the nearest, the steadiest and closest is taken.
    """
    off = (mean - site).norm(dim=-1)
    near = off.argsort()[:6]
    off = (off - _SITE_RADIUS_M.get(name, 0.0)).clamp_min(0)
    score = spread(examples, near, body).square() + off[near].square()
    return int(near[score.argmin()])


def train_registration(
    body, subjects: int = 24, poses: int = 16, examples: Examples | None = None
) -> Registration:
    """Registration of any body; markers are those of the built-in body.

    Anatomical markers sit at the body's own sites, where it has them; others at the vertices nearest to
    their places on the built-in body.

    Args:
        body: has skeleton, kinematics, weights (V,22), sample_subject(seed) and pose(subject, coordinates);
            rest_mean (V,3) and sites (marker -> (3,) on rest_mean, right side and midline) if it knows them.
        subjects, poses: how many of seeds 0, 1, ... and how many poses of each.
        examples: in place of those.
    """
    examples = examples or sample_examples(body, range(subjects), poses)
    index, weights = fit_joints(examples)
    with np.load(ASSET) as data:
        shipped_count = int(data["vertex_counts"][0])
    shipped = read_registration(ASSET, shipped_count, body.skeleton)
    vertices = nearest_vertices(examples, body.weights.cpu(), shipped.marker_bodies, shipped.marker_locations)
    for name, site in getattr(body, "sites", {}).items():
        if name in shipped.marker_names:
            marker = shipped.marker_index(name)
            vertices[marker] = _site_vertex(
                examples, body.rest_mean, site, name, int(shipped.marker_bodies[marker])
            )
            if name.startswith("R"):
                mirrored = body.rest_mean[vertices[marker]] * torch.tensor([1.0, 1.0, -1.0])
                left = shipped.marker_index("L" + name[1:])
                vertices[left] = (body.rest_mean - mirrored).norm(dim=-1).argmin()
    registration = Registration(
        joint_names=body.skeleton.body_names,
        joint_vertices=torch.as_tensor(index),
        joint_weights=torch.as_tensor(weights, dtype=torch.float32),
        marker_names=shipped.marker_names,
        marker_vertices=vertices,
        marker_bodies=shipped.marker_bodies,
        marker_locations=shipped.marker_locations,
        vertex_count=examples.vertices.shape[1],
    )
    return calibrate(registration, examples)


def train_open_body(subjects: int, poses: int) -> tuple[Registration, np.ndarray]:
    """The built-in body's registration for the coarse mesh, and the coarse vertices' fine indices (V,).

    Trained on both of its populations. Anatomical markers sit on a vertex close to their site;
    cluster markers, whose place is arbitrary, on the one that moves least against its bone of those around
    their published place.
    """
    from odah.bodies.open_body import ASSET as BODY_ASSET
    from odah.bodies.open_body import OpenBody

    body = OpenBody("coarse")
    skeleton = body.skeleton
    half = subjects // 2
    examples = joined(
        sample_examples(OpenBody("coarse", population="adults"), range(half), poses),
        sample_examples(body, range(half, subjects), poses),
    )
    index, weights = fit_joints(examples)
    sites = open_body_sites(BODY_ASSET)
    mean = body.rest_mean
    extra = [side + name for name in EXTRA_MARKERS for side in "RL"]
    names = [n for n in skeleton.marker_names if n not in INNER_MARKERS] + extra
    vertices, bodies = {}, {}
    for name in names:
        if name in skeleton.marker_names:
            bodies[name] = int(skeleton.marker_bodies[skeleton.marker_index(name)])
        else:
            bodies[name] = skeleton.body_index(f"{EXTRA_MARKERS[name[1:]]}_{name[0].lower()}")
        if name in sites:
            vertices[name] = _site_vertex(examples, mean, sites[name], name, bodies[name])
    for name in names:
        if name not in sites and name.startswith("R"):
            location = skeleton.marker_locations[skeleton.marker_index(name)]
            body_of = torch.tensor([bodies[name]])
            here = nearest_vertices(
                examples, body.weights, body_of, torch.tensor(location, dtype=torch.float32)[None]
            )
            near = (mean - mean[here]).norm(dim=-1) < _CLUSTER_RADIUS_M
            near &= body.weights[:, bodies[name]] >= min(
                _LEAST_WEIGHT, float(body.weights[here, bodies[name]])
            )
            for taken in vertices.values():
                near &= (mean - mean[taken]).norm(dim=-1) > _APART_M
            near = torch.nonzero(near)[:, 0]
            vertices[name] = int(near[spread(examples, near, bodies[name]).argmin()])
    mirror = torch.tensor([1.0, 1.0, -1.0])
    for name in names:
        if name.startswith("L") and "R" + name[1:] in vertices:
            right = mean[vertices["R" + name[1:]]]
            vertices[name] = int((mean - right * mirror).norm(dim=-1).argmin())
    registration = Registration(
        joint_names=skeleton.body_names,
        joint_vertices=torch.as_tensor(index),
        joint_weights=torch.as_tensor(weights, dtype=torch.float32),
        marker_names=tuple(names),
        marker_vertices=torch.tensor([vertices[n] for n in names]),
        marker_bodies=torch.tensor([bodies[n] for n in names]),
        marker_locations=torch.zeros(len(names), 3),
        vertex_count=len(mean),
    )
    with np.load(BODY_ASSET) as data:
        fine = data["coarse_vertices"]
    return calibrate(registration, examples), fine


def write_registration(path: Path, registration: Registration, fine: np.ndarray, fine_count: int) -> None:
    """Write the built-in body's registration for its coarse mesh and, by the indices `fine`, its fine one."""
    joints = registration.joint_vertices.numpy().astype(np.int32)
    markers = registration.marker_vertices.numpy().astype(np.int32)
    with atomic_path(path) as staged, staged.open("wb") as file:
        np.savez_compressed(
            file,
            joint_names=np.array(registration.joint_names),
            joint_vertices=np.stack([joints, fine[joints]]),
            joint_weights=registration.joint_weights.numpy(),
            marker_names=np.array(registration.marker_names),
            marker_vertices=np.stack([markers, fine[markers]]),
            marker_bodies=registration.marker_bodies.numpy().astype(np.int32),
            marker_locations=registration.marker_locations.numpy(),
            vertex_counts=np.array([registration.vertex_count, fine_count]),
        )


def measure(body, registration: Registration, seeds: Iterable[int], poses: int, split: str = "test"):
    """Errors over random subjects and poses: RMS of joints (22,) and markers (M,), m; as `residuals`."""
    examples = sample_examples(body, seeds, poses, split)
    with torch.no_grad():
        return registration.residuals(body.kinematics, examples.frames, examples.scales, examples.vertices)


def main() -> None:
    """Command line; see the module docstring."""
    from odah.bodies.open_body import POPULATIONS, OpenBody

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subjects", type=int, default=120)
    parser.add_argument("--poses", type=int, default=16, help="of each subject")
    parser.add_argument("--output", type=Path, default=ASSET)
    args = parser.parse_args()
    registration, fine = train_open_body(args.subjects, args.poses)
    write_registration(args.output, registration, fine, len(OpenBody("fine").weights))
    errors = [
        measure(OpenBody("coarse", population=population), registration, range(90_000, 90_030), 16)
        for population in POPULATIONS
    ]
    print(f"held-out subjects and motions, RMS in mm, populations {' '.join(POPULATIONS)}")
    for kind, names in enumerate((registration.joint_names, registration.marker_names)):
        columns = [1000 * torch.cat([e[kind], e[kind].square().mean().sqrt()[None]]) for e in errors]
        for name, *values in zip((*names, "all"), *(c.tolist() for c in columns), strict=True):
            print(f"  {name:16}" + "".join(f" {v:7.1f}" for v in values))
    print(f"{args.output}: {args.output.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
