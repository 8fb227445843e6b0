"""What a camera sees of a posed mesh: its outline as a mask, through the lens."""

from __future__ import annotations

import numpy as np

from pose2sim_biokin.vision.camera import Camera

_CHUNK = 2_000_000  # pixels of the triangles' boxes that are looked at together, about 50 bytes each
_EDGE = 1e-7  # relative to a triangle's size: closes hairline cracks between neighbours
# Lens models hold where the picture was calibrated; far outside it they may fold back into it.
_FIELD = 1.25


def project_in_field(camera: Camera, points: np.ndarray) -> np.ndarray:
    """World points (..., 3), m, to distorted pixels (..., 2); NaN behind the camera and far out of view."""
    local = camera.world_to_camera(points)
    limit = _FIELD * camera.field_radius
    seen = (local[..., 2] > 1e-3) & (np.hypot(local[..., 0], local[..., 1]) < limit * local[..., 2])
    return camera.directions_to_pixels(np.where(seen[..., None], local, np.nan))


def silhouette(camera: Camera, vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """The mask (H, W) bool of a closed mesh: pixels whose centre a face covers.

    Vertices are projected through the lens, and joined by straight lines in the picture: meshes should be
    fine. Faces with a vertex that is not in view (`project_in_field`) are left out.

    Args:
        camera: of the picture wanted; `Camera.scaled` makes it a small one, which is quicker.
        vertices: (V, 3) world, m.
        faces: (F, 3) int, counter-clockwise seen from outside.
    """
    return fill_faces(project_in_field(camera, vertices), faces, camera.height, camera.width)


def fill_faces(pixels: np.ndarray, faces: np.ndarray, height: int, width: int) -> np.ndarray:
    """The mask (height, width) bool of all pixel centres covered by the faces that are turned to the camera.

    Of a closed mesh, those cover what all of its faces cover. A centre on the edge of a face counts.

    Args:
        pixels: (V, 2) x, y of the vertices, pixel centres at whole numbers; NaN: its faces are not drawn.
        faces: (F, 3) int, counter-clockwise seen from outside.
    """
    mask = np.zeros((height, width), bool)
    corners = pixels[faces]  # (F, 3, 2)
    sides = np.roll(corners, -1, axis=1) - corners
    # y points down, so a face that turns counter-clockwise to the viewer has a negative area
    area = sides[:, 0, 0] * sides[:, 1, 1] - sides[:, 0, 1] * sides[:, 1, 0]
    low = np.maximum(np.ceil(np.nan_to_num(corners.min(axis=1), nan=0.0) - 1e-6), 0).clip(max=1e6)
    high = np.nan_to_num(corners.max(axis=1), nan=-1.0) + 1e-6
    high = np.minimum(np.floor(high.clip(min=-1.0)), (width - 1, height - 1))
    spans = (high - low).astype(np.int64) + 1
    # a NaN area is not below zero
    kept = np.flatnonzero((area < 0) & (spans > 0).all(axis=1))
    low, spans, corners, sides = low[kept].astype(np.int64), spans[kept], corners[kept], sides[kept]
    # edge k at pixel p: side x (p - corner), at most zero inside
    gx, gy = -sides[..., 1], sides[..., 0]
    constant = -(gx * corners[..., 0] + gy * corners[..., 1]) - _EDGE * np.abs(area[kept])[:, None]

    counts = spans[:, 0] * spans[:, 1]
    ends = np.cumsum(counts)
    start = 0
    while start < len(kept):
        base = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, base + _CHUNK, side="right")))
        number = counts[start:stop]
        index = np.repeat(np.arange(start, stop), number)
        place = np.arange(ends[stop - 1] - base) - np.repeat(ends[start:stop] - number - base, number)
        y, x = np.divmod(place, spans[index, 0])
        x += low[index, 0]
        y += low[index, 1]
        inside = np.ones(len(index), bool)
        for k in range(3):
            inside &= gx[index, k] * x + gy[index, k] * y + constant[index, k] <= 0
        mask[y[inside], x[inside]] = True
        start = stop
    return mask


def mask_iou(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two masks (H, W) bool; NaN where both are empty."""
    union = np.count_nonzero(first | second)
    return np.count_nonzero(first & second) / union if union else float("nan")
