"""Surface landmarks of a body's mean shape, named after the skeleton's markers.

Found by geometry on the mean rest mesh (extreme vertices of rings around bone heads), right side first; the
left side is the mirror image, since bodies are symmetric. One finder serves every mesh whose bones are known:
arms lowered, elbows a little bent. Ground axes: X forward, Y up, Z right, origin between the hips; metres.
"""

from __future__ import annotations

import numpy as np

from pose2sim_biokin.errors import BiokinError

_LEAST = 3  # vertices to choose from

# Points that the finder needs -> bones of the built-in body's rig whose heads they are; right side.
RIG_HEADS = {
    "hip": "upperleg01.R",
    "knee": "lowerleg01.R",
    "ankle": "foot.R",
    "first_toe": "toe1-1.R",
    "fifth_toe": "toe5-1.R",
    "shoulder": "upperarm01.R",
    "elbow": "lowerarm01.R",
    "wrist": "wrist.R",
    "index": "finger2-1.R",
    "little": "finger5-1.R",
    "neck": "neck01",
    "clavicle": "clavicle.R",
}


def _ring(vertices: np.ndarray, center: np.ndarray, axis: np.ndarray, half: float, radius: float):
    """Indices of vertices in a slab of half-thickness `half` across `axis`, within `radius` of `center`."""
    offset = vertices - center
    along = offset @ axis
    across = np.linalg.norm(offset - along[:, None] * axis, axis=1)
    return _within((along, half), (across, radius))


def _within(*limits: tuple[np.ndarray, float]) -> np.ndarray:
    """Indices where each distance (V,) is below its limit; limits grow until a coarse mesh has some there."""
    for growth in 1.25 ** np.arange(9):
        found = np.flatnonzero(np.all([np.abs(d) < growth * limit for d, limit in limits], axis=0))
        if len(found) >= _LEAST:
            return found
    raise BiokinError("A body's mesh has no skin around its joints; is it a person, upright, in metres?")


def _extreme(vertices: np.ndarray, candidates: np.ndarray, direction: np.ndarray) -> int:
    return int(candidates[(vertices[candidates] @ direction).argmax()])


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.linalg.norm(v)


def find_landmarks(vertices: np.ndarray, bone: dict[str, np.ndarray]) -> tuple[list[str], list[int]]:
    """Marker names and vertex indices.

    Args:
        vertices: (V,3) mean rest mesh.
        bone: (3,) mean heads of the bones of the right side and the midline, by the names in RIG_HEADS:
            joint centres, the balls of the first and fifth toe, the knuckles of index and little finger.
    """
    right = np.array([0.0, 0.0, 1.0])
    up = np.array([0.0, 1.0, 0.0])
    forward = np.array([1.0, 0.0, 0.0])
    found: dict[str, int] = {}

    knee, ankle = bone["knee"], bone["ankle"]
    ring = _ring(vertices, knee, _unit(ankle - knee), 0.015, 0.1)
    found["RLFC"], found["RMFC"] = _extreme(vertices, ring, right), _extreme(vertices, ring, -right)
    ring = _ring(vertices, ankle, _unit(ankle - knee), 0.012, 0.08)
    found["RLMAL"], found["RMMAL"] = _extreme(vertices, ring, right), _extreme(vertices, ring, -right)
    foot = np.flatnonzero((vertices[:, 1] < ankle[1] - 0.01) & (vertices[:, 2] > 0))
    found["RCAL"] = _extreme(vertices, foot, -forward)
    first, fifth = bone["first_toe"], bone["fifth_toe"]
    found["RTOE"] = _extreme(vertices, _ring(vertices, first, forward, 0.012, 0.035), up)
    found["RMT5"] = _extreme(vertices, _ring(vertices, fifth, forward, 0.02, 0.05), right)

    shoulder, elbow, wrist = bone["shoulder"], bone["elbow"], bone["wrist"]
    upper, fore = _unit(elbow - shoulder), _unit(wrist - elbow)
    lateral = _unit(np.cross(upper, fore))  # the right elbow flexes about its lateral axis
    ring = _ring(vertices, elbow, _unit(upper + fore), 0.015, 0.08)
    found["RLEL"], found["RMEL"] = _extreme(vertices, ring, lateral), _extreme(vertices, ring, -lateral)
    thumb = bone["index"] - bone["little"]
    thumb = _unit(thumb - (thumb @ fore) * fore)
    ring = _ring(vertices, wrist - 0.02 * fore, fore, 0.012, 0.06)
    found["RFAradius"] = _extreme(vertices, ring, thumb)
    found["RFAulna"] = _extreme(vertices, ring, -thumb)
    ring = _ring(vertices, shoulder + np.array([0.0, 0.0, -0.02]), up, 0.15, 0.02)
    found["RACR"] = _extreme(vertices, ring, up)

    hip = bone["hip"]
    x, y, z = vertices.T
    front = _within((y - hip[1] - 0.095, 0.015), (z - 0.12, 0.02))
    found["RASI"] = _extreme(vertices, front, forward)
    back = _within((y - hip[1] - 0.11, 0.015), (z - 0.045, 0.015))
    found["RPSI"] = _extreme(vertices, back, -forward)

    for name in list(found):
        mirrored = vertices[found[name]] * np.array([1.0, 1.0, -1.0])
        found["L" + name[1:]] = int(np.linalg.norm(vertices - mirrored, axis=1).argmin())

    neck = _within((z, 0.012), (y - bone["neck"][1], 0.015))
    found["C7"] = _extreme(vertices, neck, -forward)
    chest = _within((z, 0.012), (y - bone["clavicle"][1], 0.015))
    found["CLAV"] = _extreme(vertices, chest, forward)
    return list(found), list(found.values())
