"""Contact sheet of subjects: skin, skeleton, joint centres and markers, from the front and the right.

Bones are white lines; the skeleton's joint centres are orange (right), blue (left) and white dots, those
that the regressor finds in the skin black rings. Marker vertices are green dots, red lines lead from them to
the same markers on the skeleton.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from odah.bodies.registration import Registration, load_registration
from odah.render.rasterizer import render
from pose2sim_biokin.overlay import COLOURS
from pose2sim_biokin.skeleton.rotations import ground_to_world

TILE_PX = (200, 420)  # width, height
_SPAN_M = 2.35  # height of a tile, at the person
_DISTANCE_M = 30.0  # so far that the picture is nearly a parallel projection
_SKIN = (0.55, 0.42, 0.36)
_SKIN_SHOWN = 0.55  # the rest is background, so that lines stand out
_GREEN, _RED = (60, 170, 40), (40, 40, 220)


def subject_sheet(body, subjects: Sequence, poses: Sequence[Tensor], columns: int = 4) -> np.ndarray:
    """Picture (H,W,3) uint8 BGR of subjects: each front and side, in every pose.

    Args:
        poses: coordinates (39,) in rad and m, the same for all subjects.
        columns: subjects a row.
    """
    registration = load_registration(body)
    cells = []
    for subject in subjects:
        tiles = [t for q in poses for t in subject_tiles(body, registration, subject, q)]
        cells.append(np.concatenate(tiles, axis=1))
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % min(columns, len(cells)))
    columns = min(columns, len(cells))
    rows = [np.concatenate(cells[i : i + columns], axis=1) for i in range(0, len(cells), columns)]
    return np.concatenate(rows)


@torch.no_grad()
def subject_tiles(body, registration: Registration, subject, coordinates: Tensor) -> list[np.ndarray]:
    """One pose of one subject from the front and from its right, each (h,w,3) uint8 BGR."""
    width, height = TILE_PX
    kinematics = body.kinematics
    frames = kinematics(coordinates, subject.scales)
    vertices = body.pose(subject, coordinates)
    center = (vertices.amax(0) + vertices.amin(0)) / 2
    joints = kinematics.joint_centers(frames, subject.scales)
    points = {
        "joints": joints,
        "regressed": registration.joint_centers(vertices),
        "mesh": registration.markers(vertices),
        "model": registration.model_markers(frames, subject.scales),
    }
    focal = _DISTANCE_M * height / _SPAN_M
    K = torch.tensor([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
    tiles = []
    # rows of R: the image's right, down and depth in world axes (X to the person's right, Y forward, Z up)
    for right, depth in (((-1.0, 0.0, 0.0), (0.0, -1.0, 0.0)), ((0.0, 1.0, 0.0), (-1.0, 0.0, 0.0))):
        R = torch.tensor([right, (0.0, 0.0, -1.0), depth])
        t = -R @ ground_to_world(center) + torch.tensor([0.0, 0.0, _DISTANCE_M])
        image = render(
            ground_to_world(vertices)[None],
            body.faces,
            K[None],
            R[None],
            t[None],
            height=height,
            width=width,
            albedo=torch.tensor(_SKIN).expand(1, len(vertices), 3),
            smooth=True,
            supersample=2,
        )
        shown = _SKIN_SHOWN * image.mask[0, ..., None]
        picture = (255 * (shown * image.rgb[0] + 1 - shown)).clamp(0, 255).to(torch.uint8).numpy()
        tile = np.ascontiguousarray(picture[..., ::-1])
        pixels = {}
        for name, ground in points.items():
            view = ground_to_world(ground) @ R.T + t
            pixels[name] = ((view[:, :2] / view[:, 2:]) * focal + K[:2, 2]).numpy()
        _draw(tile, pixels, body.skeleton)
        tiles.append(tile)
    return tiles


def _draw(tile: np.ndarray, pixels: dict[str, np.ndarray], skeleton) -> None:
    at = {name: [tuple(int(v) for v in np.round(p)) for p in points] for name, points in pixels.items()}
    for child, parent in enumerate(skeleton.joints.parents):
        if parent >= 0:
            cv2.line(tile, at["joints"][parent], at["joints"][child], (255, 255, 255), 2, cv2.LINE_AA)
    for mesh, model in zip(at["mesh"], at["model"], strict=True):
        cv2.line(tile, mesh, model, _RED, 1, cv2.LINE_AA)
        cv2.circle(tile, mesh, 2, _GREEN, -1, cv2.LINE_AA)
    for name, joint, regressed in zip(skeleton.body_names, at["joints"], at["regressed"], strict=True):
        side = name[-1] if name.endswith(("_r", "_l")) else ""
        cv2.circle(tile, joint, 3, COLOURS[side], -1, cv2.LINE_AA)
        cv2.circle(tile, regressed, 5, (0, 0, 0), 1, cv2.LINE_AA)
