"""Anatomical sites of markers on the built-in body's mean shape.

Most are the asset's landmarks (`landmarks.find_landmarks`). Some are placed anew, as points near the skin of
the mean shape, from bone heads and published proportions. Ground axes, origin between the hips, m.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

# Markers that are points inside the body: joint centres, which the joint regressor gives.
INNER_MARKERS = tuple(
    f"{side}{name}" for side in "RL" for name in ("SJC", "EJC", "HJC", "KJC", "AJC", "_tibial_plateau")
)
# Markers that the skeleton lacks -> their body; without the knuckles nothing tells how a wrist is bent.
EXTRA_MARKERS = {"MC3": "hand"}  # back of the third metacarpal's head
# The spines of the pelvis on the skin: distance between left and right, and height above the hip centres.
ASIS_WIDTH_M, ASIS_HEIGHT_M = 0.256, 0.085
PSIS_WIDTH_M, PSIS_HEIGHT_M = 0.090, 0.110
_KNUCKLE_SKIN_M = 0.012


def open_body_sites(asset: Path) -> dict[str, Tensor]:
    """Marker name -> (3,) point on or near the mean shape's skin, right side and midline markers."""
    with np.load(asset) as data:
        count = len(data["uv"])
        mean = data["mean"].astype(np.float64)
        bones = dict(zip(map(str, data["bone_names"]), mean[count:], strict=True))
        sites = {
            str(name): mean[vertex]
            for name, vertex in zip(data["landmark_names"], data["landmark_vertices"], strict=True)
            if not (str(name).startswith("L") and "R" + str(name)[1:] in data["landmark_names"])
        }
    skin = mean[:count]
    sites |= pelvis_sites(skin)
    right = ("finger3-1.R", "wrist.R", "finger2-1.R", "finger5-1.R")
    sites["RMC3"] = knuckle_site(*(bones[name] for name in right))
    return {name: torch.as_tensor(site, dtype=torch.float32) for name, site in sites.items()}


def pelvis_sites(skin: np.ndarray) -> dict[str, np.ndarray]:
    """RASI and RPSI (3,) on the skin (V,3) of a mean shape with its origin between the hips."""
    sites = {}
    for name, width, height, direction in (
        ("RASI", ASIS_WIDTH_M, ASIS_HEIGHT_M, 1.0),
        ("RPSI", PSIS_WIDTH_M, PSIS_HEIGHT_M, -1.0),
    ):
        off = np.hypot(skin[:, 1] - height, skin[:, 2] - width / 2)
        near = np.flatnonzero((off < 0.025) & (direction * skin[:, 0] > 0))
        # the skin's depth there, from the nearest few vertices
        closest = near[np.argsort(off[near])[:3]]
        sites[name] = np.array([skin[closest, 0].mean(), height, width / 2])
    return sites


def knuckle_site(knuckle: np.ndarray, wrist: np.ndarray, index: np.ndarray, little: np.ndarray) -> np.ndarray:
    """RMC3 (3,) on the back of a right hand, from the heads of its third, second and fifth fingers (3,)."""
    back = np.cross(knuckle - wrist, index - little)
    return knuckle + _KNUCKLE_SKIN_M * back / np.linalg.norm(back)
