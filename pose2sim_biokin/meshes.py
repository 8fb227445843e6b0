"""Meshes that move with a motion, a frame at a time: the body surface, or the model's bones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.osim import POSE2SIM_MESHES, pose2sim_geometry_dir
from pose2sim_biokin.io.vtp import read_vtp
from pose2sim_biokin.motion import Motion
from pose2sim_biokin.skeleton.kinematics import BodyFrames, ForwardKinematics
from pose2sim_biokin.skeleton.model import Skeleton
from pose2sim_biokin.skeleton.rotations import ground_to_world
from pose2sim_biokin.skeleton.surface import BodySurface, load_surface

# Details of bones smaller than this are not drawn: two pixels of an overlay, and half of the faces.
_DETAIL_M = 0.006
SOLES = ("heel_r", "toe_r", "heel_l", "toe_l")


@dataclass(frozen=True, eq=False)
class PosedMesh:
    """A mesh over a motion of T frames; all of its vertices in all frames would not fit into memory.

    Attributes:
        surface: rest of the mesh, on the skeleton's nb bodies.
        frames: rotation (T, nb, 3, 3) and position (T, nb, 3) of the bodies in ground, float64.
        scales: (nb, 3).
        sides: (F,) "r", "l" or "" of each face.
    """

    surface: BodySurface
    frames: BodyFrames
    scales: torch.Tensor
    sides: np.ndarray

    def vertices(self, row: int) -> np.ndarray:
        """(V, 3) world, m, of a frame; NaN where it has no pose."""
        return self._posed(slice(row, row + 1))[0]

    @cached_property
    def soles(self) -> np.ndarray:
        """(T, 4, 3) world, m: under heel and forefoot, right and left; of the body surface only."""
        return self._posed(slice(None), [self.surface.soles[name] for name in SOLES])

    def _posed(self, rows: slice, chosen: list[int] | None = None) -> np.ndarray:
        frames = BodyFrames(*(part[rows] for part in self.frames))
        with torch.no_grad():
            return ground_to_world(self.surface.pose(frames, self.scales, chosen)).numpy()


def posed_surface(motion: Motion, skeleton: Skeleton) -> PosedMesh:
    """The body surface over a motion.

    Raises:
        BiokinError: the skeleton cannot carry it; see `load_surface`.
    """
    return _posed(load_surface(skeleton), motion, skeleton)


def posed_bones(motion: Motion, skeleton: Skeleton) -> PosedMesh:
    """The bones of the skeleton's geometry files, in Pose2Sim's Geometry folder, over a motion.

    Raises:
        BiokinError: the folder, or all of the files, are not there, or a file cannot be read.
    """
    folder = pose2sim_geometry_dir()
    if folder is None:
        raise BiokinError(
            "No bones to draw: the installed Pose2Sim has no folder OpenSim_Setup/Geometry. Update it: "
            "pip install -U pose2sim, or set [biokin] overlay to 'skeleton' or 'surface'."
        )
    points, faces, bodies = [], [], []
    count = 0
    for body, files in enumerate(skeleton.meshes):
        for file, scale in files:
            path = folder / POSE2SIM_MESHES.get(file, file)
            if not path.is_file():
                continue
            own, triangles = merge_near(*read_vtp(path), _DETAIL_M)
            points.append(own * np.asarray(scale))
            faces.append(triangles + count)
            bodies.append(np.full(len(own), body))
            count += len(own)
    if not points:
        raise BiokinError(
            f"{folder}: none of the geometry files of skeleton {skeleton.name!r} is here. Set [biokin] "
            "overlay to 'skeleton' or 'surface'."
        )
    places, body = np.concatenate(points), np.concatenate(bodies)
    weights = np.zeros((count, len(skeleton.body_names)))
    weights[np.arange(count), body] = 1.0
    blend = np.zeros((count, len(skeleton.body_names), 3))
    blend[np.arange(count), body] = places
    faces = np.concatenate(faces)
    rigid = BodySurface(
        faces,
        weights,
        body[faces[:, 0]],
        {},
        torch.from_numpy(np.concatenate([blend.reshape(count, -1), weights], axis=1).T.copy()),
    )
    return _posed(rigid, motion, skeleton)


def merge_near(points: np.ndarray, faces: np.ndarray, size: float) -> tuple[np.ndarray, np.ndarray]:
    """A coarser mesh: points (V, 3) in one cell of a cubic grid become their mean.

    Args:
        faces: (F, 3) int.
        size: of the cells, m.

    Returns:
        Points (V', 3), and the faces (F', 3) whose corners lie in three cells, each once.
    """
    _, cell, count = np.unique(
        np.floor(points / size).astype(np.int64), axis=0, return_inverse=True, return_counts=True
    )
    cell = cell.reshape(-1)
    merged = np.zeros((len(count), 3))
    np.add.at(merged, cell, points)
    merged /= count[:, None]
    faces = cell[faces]
    kept = (faces != np.roll(faces, 1, axis=1)).all(axis=1)
    return merged, np.unique(faces[kept], axis=0)


def _posed(surface: BodySurface, motion: Motion, skeleton: Skeleton) -> PosedMesh:
    scales = torch.as_tensor(motion.scales, dtype=torch.float64)
    fk = ForwardKinematics(skeleton, dtype=torch.float64)
    with torch.no_grad():
        frames = fk(torch.as_tensor(motion.coordinates, dtype=torch.float64), scales)
    sides = np.array([name[-1] if name.endswith(("_r", "_l")) else "" for name in skeleton.body_names])
    return PosedMesh(surface, frames, scales, sides[surface.face_bodies])
