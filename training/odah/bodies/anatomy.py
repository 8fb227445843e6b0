"""Is the anatomy right? Joint centres of skeleton and mesh beside what anatomy says from surface landmarks.

    checks = anatomy_checks(body, subjects)

Hip centres are compared with two published regressions from the pelvis' spines, knees, ankles and elbows
with the mid-points between their condyles and malleoli. All in the subjects' rest pose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from odah.bodies.registration import Registration, load_registration

# Soft tissue over the anterior and posterior superior iliac spines, m: 9.7 and 19.6 mm on average in CT of
# 67 adults (Mantovani et al. 2016, Gait & Posture 44:48-54). The regressions are from bones.
ASIS_TISSUE_M, PSIS_TISSUE_M = 0.0097, 0.0196
# Landmarks whose mid-point is the centre of the joint that carries a body.
MIDPOINTS = {
    "knee": ("tibia", "LFC", "MFC", "femur"),
    "ankle": ("talus", "LMAL", "MMAL", "tibia"),
    "elbow": ("ulna", "LEL", "MEL", "humerus"),
}


@dataclass(frozen=True)
class Check:
    """How far the skeleton's joint lies from where a method puts it, over subjects and both sides, mm.

    Attributes:
        joint, method: what is compared.
        distance, distance_sd: mean and SD of the distance.
        offset, offset_sd: (3,) mean and SD of skeleton minus method, forward, up and lateral in the axes of
            the body named in `axes`.
    """

    joint: str
    method: str
    distance: float
    distance_sd: float
    offset: tuple[float, float, float]
    offset_sd: tuple[float, float, float]
    axes: str


def pelvis_axes(rasi: Tensor, lasi: Tensor, rpsi: Tensor, lpsi: Tensor) -> tuple[Tensor, Tensor]:
    """Middle (...,3) of the anterior spines and the pelvis' axes (...,3,3): columns forward, up, right.

    Right along the anterior spines, forward in the plane of all four (Wu et al. 2002, J Biomech 35:543-548).
    """
    middle = (rasi + lasi) / 2
    right = torch.nn.functional.normalize(rasi - lasi, dim=-1)
    up = torch.linalg.cross(right, middle - (rpsi + lpsi) / 2)
    up = torch.nn.functional.normalize(up, dim=-1)
    return middle, torch.stack([torch.linalg.cross(up, right), up, right], -1)


def harrington_hips(width: Tensor, depth: Tensor) -> Tensor:
    """Right hip centre (...,3) forward, up, right of the anterior spines' middle, m.

    Harrington et al. 2007, J Biomech 40:595-602, the equations without leg length, mm:
    x = -0.24 PD - 9.9, y = -0.30 PW - 10.9, z = 0.33 PW + 7.3.

    Args:
        width: (...) PW, between the anterior spines, m.
        depth: (...) PD, between the middles of anterior and posterior spines, m.
    """
    return torch.stack([-0.24 * depth - 0.0099, -0.30 * width - 0.0109, 0.33 * width + 0.0073], -1)


def hara_hips(leg: Tensor) -> Tensor:
    """Right hip centre (...,3) forward, up, right of the anterior spines' middle, m.

    Hara et al. 2016, Sci Rep 6:37707, mm: x = 11 - 0.063 LL, y = -9 - 0.078 LL, z = 8 + 0.086 LL.

    Args:
        leg: (...) LL, from the anterior spine to the medial malleolus, m.
    """
    return torch.stack([0.011 - 0.063 * leg, -0.009 - 0.078 * leg, 0.008 + 0.086 * leg], -1)


def predicted_hips(points: dict[str, Tensor], method: str) -> tuple[Tensor, Tensor, Tensor]:
    """Right and left hip centres (...,3) by "harrington" or "hara", and the pelvis' axes (...,3,3).

    Args:
        points: RASI, LASI, RPSI, LPSI, and RMMAL, LMMAL for "hara", each (...,3) m.
    """
    spines = [points[name] for name in ("RASI", "LASI", "RPSI", "LPSI")]
    middle, axes = pelvis_axes(*spines)
    if method == "harrington":
        depth = (middle - (spines[2] + spines[3]) / 2).norm(dim=-1)
        local = [harrington_hips((spines[0] - spines[1]).norm(dim=-1), depth)] * 2
    else:
        local = [hara_hips((points[f"{s}ASI"] - points[f"{s}MMAL"]).norm(dim=-1)) for s in "RL"]
    mirror = torch.tensor([1.0, 1.0, -1.0], dtype=middle.dtype)
    right, left = (
        middle + (axes @ (hip * m)[..., None])[..., 0]
        for hip, m in zip(local, (torch.ones_like(mirror), mirror), strict=True)
    )
    return right, left, axes


@torch.no_grad()
def anatomy_checks(body, subjects: Sequence, registration: Registration | None = None) -> list[Check]:
    """Checks of hips, knees, ankles and elbows over subjects of a body, in their rest pose."""
    registration = registration or load_registration(body)
    scales = torch.stack([s.scales for s in subjects])
    frames = body.kinematics(torch.stack([s.rest_coordinates for s in subjects]), scales)
    vertices = torch.stack([s.vertices for s in subjects])
    points = dict(zip(registration.marker_names, registration.markers(vertices).unbind(-2), strict=True))
    names = body.skeleton.body_names
    centers = dict(zip(names, body.kinematics.joint_centers(frames, scales).unbind(-2), strict=True))
    checks = []
    for source, tissue in (("skin", False), ("bone", True)):
        spines = _less_tissue(points) if tissue else points
        for method, title in (("harrington", "Harrington 2007"), ("hara", "Hara 2016")):
            right, left, axes = predicted_hips(spines, method)
            off = torch.stack([centers["femur_r"] - right, centers["femur_l"] - left])
            checks.append(_check("hip", f"{title}, {source}", _local(off, axes), "pelvis"))
    for joint, (child, lateral, medial, carrier) in MIDPOINTS.items():
        off, axes = [], []
        for side in "RL":
            middle = (points[side + lateral] + points[side + medial]) / 2
            off.append(centers[f"{child}_{side.lower()}"] - middle)
            axes.append(frames.rotation[:, names.index(f"{carrier}_{side.lower()}")])
        local = _local(torch.stack(off), torch.stack(axes))
        checks.append(_check(joint, f"middle of {lateral} and {medial}", local, carrier))
    return checks


def _less_tissue(points: dict[str, Tensor]) -> dict[str, Tensor]:
    """The spines moved from the skin onto the bone, along the pelvis' forward axis."""
    _, axes = pelvis_axes(*(points[name] for name in ("RASI", "LASI", "RPSI", "LPSI")))
    forward = axes[..., 0]
    moved = {name: points[name] - ASIS_TISSUE_M * forward for name in ("RASI", "LASI")}
    moved |= {name: points[name] + PSIS_TISSUE_M * forward for name in ("RPSI", "LPSI")}
    return {**points, **moved}


def _local(offset: Tensor, axes: Tensor) -> np.ndarray:
    """(2,n,3) offsets of right and left in a body's axes, lateral positive on both sides, mm."""
    local = 1000 * (axes.transpose(-1, -2) @ offset[..., None])[..., 0]
    local[1, :, 2] *= -1
    return local.double().numpy()


def _check(joint: str, method: str, offset: np.ndarray, axes: str) -> Check:
    distance = np.linalg.norm(offset, axis=-1)
    flat = offset.reshape(-1, 3)
    return Check(
        joint,
        method,
        float(distance.mean()),
        float(distance.std()),
        tuple(flat.mean(0).tolist()),
        tuple(flat.std(0).tolist()),
        axes,
    )
