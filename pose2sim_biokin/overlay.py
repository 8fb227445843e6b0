"""Overlay videos: the person, as found, drawn on what the cameras saw: skeleton, body surface or bones.

Right is orange, left is blue, whatever way the person faces; the trunk is white and the mask's outline green.
Heels, toes and nose are drawn, so that a person turned back to front is seen at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from pose2sim_biokin.io.video import VideoWriter
from pose2sim_biokin.meshes import PosedMesh
from pose2sim_biokin.motion import Motion
from pose2sim_biokin.skeleton.kinematics import ForwardKinematics
from pose2sim_biokin.skeleton.model import Skeleton
from pose2sim_biokin.skeleton.rotations import ground_to_world
from pose2sim_biokin.vision.camera import Camera
from pose2sim_biokin.vision.silhouettes import project_in_field

# Large enough to judge a pose by, and half of 1920: an exact, and fast, reduction.
LONG_SIDE = 960
# BGR; orange and blue stay apart for colour-blind eyes
COLOURS = {"r": (0, 140, 255), "l": (255, 150, 30), "": (255, 255, 255)}
OUTLINE = (80, 220, 80)
_ALERT = (60, 60, 255)
BONE = (200, 228, 240)
# Share of a mesh's colour in the picture: the person shows through a surface, hardly through bones.
OPACITY = {"surface": 0.5, "bones": 0.9}

# Points that are neither joints nor markers: body, place in the body's frame (m, unscaled).
_EXTRA_POINTS = {"head": ("torso", (0.01, 0.56, 0.0)), "nose": ("torso", (0.11, 0.53, 0.0))}
_EXTRA_LINKS = (
    *(("torso", "C7"), ("C7", "head"), ("head", "nose"), ("C7", "humerus_r"), ("C7", "humerus_l")),
    *(("RASI", "RPSI"), ("LASI", "LPSI"), ("RASI", "LASI"), ("RPSI", "LPSI")),
    *(("talus_r", "RCAL"), ("RCAL", "RTOE"), ("talus_r", "RTOE")),
    *(("talus_l", "LCAL"), ("LCAL", "LTOE"), ("talus_l", "LTOE")),
)
# Links between joint centres that these replace, or that only clutter the picture.
_HIDDEN_LINKS = {("torso", "humerus_r"), ("torso", "humerus_l")}
_HIDDEN_BODIES = ("patella_r", "patella_l", "calcn_r", "calcn_l", "toes_r", "toes_l")


@dataclass(frozen=True)
class StickFigure:
    """What is drawn of a motion.

    Attributes:
        points: (T, P, 3) metres in the project's world (Z up); NaN where there is no pose.
        names: P names: bodies (their joint centres), markers, "head" and "nose".
        links: pairs of points, and "r", "l" or "" for the side.
    """

    points: np.ndarray
    names: tuple[str, ...]
    links: tuple[tuple[int, int, str], ...]


def stick_figure(motion: Motion, skeleton: Skeleton) -> StickFigure:
    """Joint centres connected by bones, with head and feet where the skeleton has them."""
    fk = ForwardKinematics(skeleton, dtype=torch.float64)
    scales = torch.as_tensor(motion.scales, dtype=torch.float64)
    with torch.no_grad():
        frames = fk(torch.as_tensor(motion.coordinates, dtype=torch.float64), scales)
        parts = [fk.joint_centers(frames, scales), fk.markers(frames, scales)]
        names = [*skeleton.body_names, *skeleton.marker_names]
        for name, (body, place) in _EXTRA_POINTS.items():
            if body in skeleton.body_names:
                i = skeleton.body_index(body)
                local = scales[i] * torch.tensor(place, dtype=torch.float64)
                parts.append((frames.rotation[:, i] @ local + frames.position[:, i])[:, None])
                names.append(name)
        points = ground_to_world(torch.cat(parts, dim=1)).numpy()

    index = {name: i for i, name in reversed(list(enumerate(names)))}
    has_head = "C7" in index and "head" in index
    links = []
    for body, parent in zip(skeleton.body_names, skeleton.parent_names, strict=True):
        replaced = body in _HIDDEN_BODIES or ((parent, body) in _HIDDEN_LINKS and has_head)
        if parent != "ground" and not replaced:
            links.append((parent, body))
    links += [link for link in _EXTRA_LINKS if link[0] in index and link[1] in index]
    return StickFigure(points, tuple(names), tuple((index[a], index[b], _side(a, b)) for a, b in links))


def write_overlay(
    path: str | Path,
    frames: Iterable[tuple[int, np.ndarray]],
    camera: Camera,
    figure: StickFigure,
    fps: float,
    mask: Callable[[int], np.ndarray | None] | None = None,
    caption: Callable[[int], str] | None = None,
    first_frame: int = 0,
    mesh: PosedMesh | None = None,
    kind: str = "skeleton",
) -> str:
    """Write the overlay video of one view, frame by frame.

    Args:
        path: an .mp4 file, overwritten.
        frames: (row of the figure, (H, W, 3) uint8 BGR image), in order.
        camera: the view's camera; its lens distortion is applied to the skeleton.
        figure: see `stick_figure`.
        fps: of the video.
        mask: row -> (H, W) mask of the person, or None where there is none.
        caption: row -> a few words for the frame, "" for none; shown in red.
        first_frame: number of the figure's first row, for the legend.
        mesh: of the same motion: the body surface, or the bones.
        kind: what is drawn: "skeleton" (the figure), "surface" (mesh and figure) or "bones" (mesh).

    Returns:
        The codec that was used.

    Raises:
        BiokinError: the video cannot be written.
    """
    factor = min(1.0, LONG_SIDE / max(camera.size))
    size = (round(camera.width * factor), round(camera.height * factor))
    pixels = factor * (camera.project(figure.points) + 0.5) - 0.5  # pixel centres at whole numbers
    small = camera.scaled(factor)
    colours = mesh_colours(mesh, kind) if mesh is not None else None
    with VideoWriter(Path(path), fps, size) as writer:
        for row, image in frames:
            if factor < 1:
                image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            else:
                image = image.copy()
            outline = mask(row) if mask is not None else None
            if outline is not None:
                draw_outline(image, outline)
            if mesh is not None:
                draw_mesh(image, small, mesh.vertices(row), mesh.surface.faces, colours, OPACITY[kind])
            if kind != "bones":
                draw_figure(image, pixels[row], figure.links)
            draw_legend(
                image, f"{camera.name}  {first_frame + row}", caption(row) if caption is not None else ""
            )
            writer.write(image)
        return writer.codec


def draw_outline(image: np.ndarray, mask: np.ndarray) -> None:
    """Draw the outline of a mask (H', W') of any size onto an image (H, W, 3), in place."""
    height, width = image.shape[:2]
    small = cv2.resize(np.asarray(mask, dtype=np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(small, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(image, contours, -1, OUTLINE, _thickness(image) // 2 or 1, cv2.LINE_AA)


def draw_figure(image: np.ndarray, pixels: np.ndarray, links: tuple[tuple[int, int, str], ...]) -> None:
    """Draw links between points (P, 2), pixels, onto an image (H, W, 3), in place; not those that are NaN."""
    width = _thickness(image)
    limit = 4 * max(image.shape[:2])  # far outside: OpenCV's fixed-point numbers overflow
    usable = (np.isfinite(pixels) & (np.abs(np.nan_to_num(pixels)) < limit)).all(axis=1)
    fixed = np.zeros(pixels.shape, dtype=int)
    fixed[usable] = np.round(pixels[usable] * 16).astype(int)
    drawn = [link for link in links if usable[link[0]] and usable[link[1]]]
    for a, b, _ in drawn:
        cv2.line(image, tuple(fixed[a]), tuple(fixed[b]), (30, 30, 30), width + 2, cv2.LINE_AA, 4)
    for a, b, side in drawn:
        cv2.line(image, tuple(fixed[a]), tuple(fixed[b]), COLOURS[side], width, cv2.LINE_AA, 4)
    for i in {i for a, b, _ in drawn for i in (a, b)}:
        cv2.circle(image, tuple(fixed[i]), 16 * width, (30, 30, 30), -1, cv2.LINE_AA, 4)


def mesh_colours(mesh: PosedMesh, kind: str) -> np.ndarray:
    """(F, 3) BGR of each face: its side's colour, and for bones that of bone, tinted by the side."""
    colours = np.array([COLOURS[side] for side in mesh.sides], dtype=np.float64)
    return 0.35 * colours + 0.65 * np.array(BONE) if kind == "bones" else colours


def draw_mesh(
    image: np.ndarray,
    camera: Camera,
    vertices: np.ndarray,
    faces: np.ndarray,
    colours: np.ndarray,
    opacity: float = 1.0,
) -> None:
    """Draw a mesh onto a camera's image (H, W, 3), in place: flat faces, far ones first, lit by the camera.

    Args:
        vertices: (V, 3) world, m; faces with one that is NaN or out of view are left out.
        faces: (F, 3) int, counter-clockwise seen from outside; those turned away are not drawn.
        colours: (F, 3) BGR.
        opacity: 0..1.
    """
    pixels = project_in_field(camera, vertices)
    local = camera.world_to_camera(vertices)
    corners = local[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    middle = corners.mean(axis=1)
    towards = -(normal * middle).sum(axis=1)
    towards /= np.maximum(np.linalg.norm(normal, axis=1) * np.linalg.norm(middle, axis=1), 1e-12)
    shown = np.flatnonzero(np.isfinite(pixels[faces]).all(axis=(1, 2)) & (towards > 0))
    if len(shown) == 0:
        return
    shown = shown[np.argsort(-middle[shown, 2])]
    shaded = (colours[shown] * (0.35 + 0.65 * towards[shown, None])).tolist()
    polygons = np.round(pixels[faces[shown]] * 16).astype(np.int32)
    box = pixels[np.unique(faces[shown])]
    height, width = image.shape[:2]
    x0, y0 = np.clip(np.floor(box.min(axis=0)).astype(int) - 1, 0, (width, height))
    x1, y1 = np.clip(np.ceil(box.max(axis=0)).astype(int) + 2, 0, (width, height))
    if x1 <= x0 or y1 <= y0:
        return
    canvas = image[y0:y1, x0:x1].copy()
    polygons -= np.array([x0, y0], dtype=np.int32) * 16
    for polygon, colour in zip(polygons, shaded, strict=True):
        cv2.fillConvexPoly(canvas, polygon, colour, cv2.LINE_8, 4)
    image[y0:y1, x0:x1] = cv2.addWeighted(canvas, opacity, image[y0:y1, x0:x1], 1 - opacity, 0)


def draw_legend(image: np.ndarray, text: str, alert: str = "") -> None:
    """Write which colour is which side, a text, and an alert in red, into the image's corner, in place."""
    scale = max(0.4, max(image.shape[:2]) / 1600)
    step = round(34 * scale)
    lines = [("R  right", COLOURS["r"]), ("L  left", COLOURS["l"]), (text, COLOURS[""])]
    if alert:
        lines.append((alert, _ALERT))
    for k, (line, colour) in enumerate(lines, start=1):
        place = (round(14 * scale), k * step)
        for shade, width in (((30, 30, 30), 4), (colour, 2)):
            thickness = max(1, round(width * scale))
            cv2.putText(image, line, place, cv2.FONT_HERSHEY_SIMPLEX, scale, shade, thickness, cv2.LINE_AA)


def _side(a: str, b: str) -> str:
    sides = {_side_of(a), _side_of(b)} - {""}
    return sides.pop() if len(sides) == 1 else ""


def _side_of(name: str) -> str:
    if name.endswith(("_r", "_l")):
        return name[-1]
    known = ("RASI", "RPSI", "RCAL", "RTOE", "LASI", "LPSI", "LCAL", "LTOE")
    return name[0].lower() if name in known else ""


def _thickness(image: np.ndarray) -> int:
    return max(2, round(max(image.shape[:2]) / 400))
