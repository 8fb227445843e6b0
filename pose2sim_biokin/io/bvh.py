"""BVH: the motion for animation programs.

The installed Pose2Sim has no BVH writer; this one follows the conventions of its `osim_to_bvh` (metres, Y up,
Z-X-Y rotations, one joint a body, the file beside the .mot).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.atomic import atomic_path
from pose2sim_biokin.skeleton.kinematics import ForwardKinematics
from pose2sim_biokin.skeleton.model import Skeleton
from pose2sim_biokin.skeleton.rotations import euler_axes, matrix_to_angles_continuous

_SLIDING = 1e-6  # m: a joint centre that moves less in its parent needs no position channels


def write_bvh(
    path: str | Path,
    time: np.ndarray,
    coordinates: np.ndarray,
    scales: np.ndarray,
    skeleton: Skeleton,
) -> Path:
    """Write the motion as a BVH file, in metres in OpenSim's ground (X forward, Y up, Z right).

    Every body is a joint at its joint centre, turned as the body is; with all rotations at zero the bodies'
    axes are those of the ground. Joints whose centre slides in the parent (knees, kneecaps) have position
    channels as the root has, so nothing is lost. BVH knows neither gaps nor start times: frames that are not
    finite repeat the last pose, and time starts at 0.

    Args:
        path: the file; replaced in one step.
        time: (T,) s, evenly spaced.
        coordinates: (T, nc) rad and m.
        scales: (nb, 3).

    Raises:
        BiokinError: fewer than two frames, no finite frame, or the file cannot be written.
    """
    time = np.asarray(time, dtype=np.float64)
    if len(time) < 2:
        raise BiokinError(f"{path}: a .bvh file needs at least two frames, found {len(time)}.")
    coordinates = _hold(np.asarray(coordinates, dtype=np.float64), path)
    offsets, rotations, rest = _local_motion(coordinates, scales, skeleton)
    euler = matrix_to_angles_continuous(torch.from_numpy(rotations), euler_axes("zxy", torch.float64)).numpy()

    parents = [int(p) for p in skeleton.joints.parents]
    children = {i: [k for k, p in enumerate(parents) if p == i] for i in range(-1, len(parents))}
    if len(children[-1]) != 1:
        raise BiokinError(f"{skeleton.name}: a .bvh file needs one root body, found {len(children[-1])}.")
    root = children[-1][0]
    order = _depth_first(root, children)
    middle = np.median(offsets, axis=0)
    slides = np.abs(offsets - middle).max(axis=(0, 2)) > _SLIDING
    slides[root] = True

    lines = ["HIERARCHY"]
    _hierarchy(lines, root, 0, children, skeleton, middle, slides, rest)
    lines += ["MOTION", f"Frames: {len(time)}", f"Frame Time: {np.diff(time).mean():.9g}"]
    columns = []
    for i in order:
        if slides[i]:
            columns.append(offsets[:, i])
        columns.append(np.rad2deg(euler[:, i]))
    with atomic_path(path) as staged, staged.open("w", encoding="utf-8", newline="\n") as file:
        file.write("\n".join(lines) + "\n")
        np.savetxt(file, np.concatenate(columns, axis=1), fmt="%.7g", delimiter=" ")
    return Path(path)


def _local_motion(
    coordinates: np.ndarray, scales: np.ndarray, skeleton: Skeleton
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Joint centres (T, nb, 3) and rotations (T, nb, 3, 3) in the parent's joint frame; leaf ends (nb, 3)."""
    fk = ForwardKinematics(skeleton, dtype=torch.float64)
    factors = torch.as_tensor(np.asarray(scales, dtype=np.float64))
    with torch.no_grad():
        frames = fk(torch.from_numpy(coordinates), factors)
        centers = fk.joint_centers(frames, factors).numpy()
        masses = fk.mass_centers(frames, factors).numpy()
    rotation = frames.rotation.numpy()
    offsets, rotations = centers.copy(), rotation.copy()
    for i, parent in enumerate(skeleton.joints.parents):
        if parent >= 0:
            turn = rotation[:, parent].swapaxes(-1, -2)
            offsets[:, i] = np.einsum("tij,tj->ti", turn, centers[:, i] - centers[:, parent])
            rotations[:, i] = turn @ rotation[:, i]
    # a segment that carries nothing ends twice as far out as its mass centre
    ends = 2 * np.einsum("nij,nj->ni", rotation[0].swapaxes(-1, -2), masses[0] - centers[0])
    return offsets, rotations, ends


def _hierarchy(lines, i, level, children, skeleton, offsets, slides, ends) -> None:
    indent = "  " * level
    # the root's place is all in its channels
    offset = offsets[i] if level else np.zeros(3)
    channels = "Zrotation Xrotation Yrotation"
    count = 3
    if slides[i]:
        channels, count = f"Xposition Yposition Zposition {channels}", 6
    lines.append(f"{indent}{'JOINT' if level else 'ROOT'} {skeleton.body_names[i]}")
    lines.append(f"{indent}{{")
    lines.append(f"{indent}  OFFSET {_numbers(offset)}")
    lines.append(f"{indent}  CHANNELS {count} {channels}")
    for child in children[i]:
        _hierarchy(lines, child, level + 1, children, skeleton, offsets, slides, ends)
    if not children[i]:
        lines.append(f"{indent}  End Site")
        lines.append(f"{indent}  {{")
        lines.append(f"{indent}    OFFSET {_numbers(ends[i])}")
        lines.append(f"{indent}  }}")
    lines.append(f"{indent}}}")


def _depth_first(i: int, children: dict[int, list[int]]) -> list[int]:
    return [i] + [k for child in children[i] for k in _depth_first(child, children)]


def _numbers(values: np.ndarray) -> str:
    return " ".join(f"{v:.7f}" for v in values)


def _hold(coordinates: np.ndarray, path: str | Path) -> np.ndarray:
    """Frames that are not finite take the last finite pose before them, or the first one after."""
    good = np.flatnonzero(np.isfinite(coordinates).all(axis=1))
    if len(good) == 0:
        raise BiokinError(f"{path}: no frame holds a pose; nothing to write.")
    source = good[np.maximum(np.searchsorted(good, np.arange(len(coordinates)), side="right") - 1, 0)]
    return coordinates[source]
