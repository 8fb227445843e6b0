"""Left and right exchanged: names, coordinates, cameras. The mirror reverses world X, which is ground Z."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pose2sim_biokin.skeleton.model import Skeleton

# Coordinates of the trunk that change sign when left and right are exchanged; the limbs' do not, because
# their joint axes are mirrored in the skeleton itself.
ODD = ("pelvis_list", "pelvis_rotation", "pelvis_tz", "lumbar_bending", "lumbar_rotation")


def mirror_indices(names: Sequence[str]) -> np.ndarray:
    """For each name the index of its mirror image: name_r and name_l exchanged."""
    names = list(names)
    other = {"_r": "_l", "_l": "_r"}

    def mirrored(name: str) -> str:
        for middle in ("_r_", "_l_"):
            if middle in name:
                return name.replace(middle, other[middle[:2]] + "_")
        return name[:-2] + other[name[-2:]] if name[-2:] in other and len(name) > 2 else name

    return np.array(
        [names.index(mirrored(name)) if mirrored(name) in names else i for i, name in enumerate(names)]
    )


def mirror_markers(names: Sequence[str]) -> np.ndarray:
    """For each marker the index of its mirror image: those that begin with R and L exchanged, if there are
    both.
    """
    names, other = list(names), {"R": "L", "L": "R"}
    images = [other.get(name[:1], name[:1]) + name[1:] for name in names]
    return np.array([names.index(image) if image in names else i for i, image in enumerate(images)])


def mirror_signs(names: Sequence[str]) -> np.ndarray:
    """-1 for each name of a coordinate that changes sign in the mirror, else 1; float32."""
    return np.array([-1 if name in ODD else 1 for name in names], dtype=np.float32)


def mirror_coordinates(coordinates: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Coordinates (..., nc) of the motion seen in a mirror."""
    names = skeleton.coordinate_names
    return coordinates[..., mirror_indices(names)] * mirror_signs(names).astype(coordinates.dtype)


def mirror_cameras(K, R, t, size: int) -> tuple:
    """Cameras (..., 3, 3), (..., 3, 3), (..., 3), arrays or tensors, that see the mirrored world as flipped
    pictures.
    """
    flip = np.array([-1.0, 1.0, 1.0], dtype=np.float32)
    if isinstance(R, Tensor):
        flip = torch.from_numpy(flip).to(R)
    K = K + 0  # a copy
    K[..., 0, 2] = size - 1 - K[..., 0, 2]
    K[..., 0, 1] = -K[..., 0, 1]
    return K, R * flip[:, None] * flip[None, :], t * flip
