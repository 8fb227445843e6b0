"""Bone geometry as OpenSim keeps it: VTK's XML PolyData, with its numbers as text."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from pose2sim_biokin.errors import BiokinError


def read_vtp(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Points (V, 3) float64 and triangles (F, 3) int64 of a ``.vtp`` file; larger polygons become fans.

    Polygons wind as in the file: counter-clockwise seen from outside in OpenSim's geometry.

    Raises:
        BiokinError: the file cannot be read, has no polygons, or its numbers are not text.
    """
    path = Path(path)
    try:
        pieces = ElementTree.parse(path).getroot().findall("PolyData/Piece")
    except (OSError, ElementTree.ParseError) as error:
        raise BiokinError(f"{path}: cannot be read as VTK PolyData ({error}).") from error
    points, faces, count = [], [], 0
    for piece in pieces:
        own = _numbers(path, piece.find("Points/DataArray"), float).reshape(-1, 3)
        corners = _numbers(path, piece.find("Polys/DataArray[@Name='connectivity']"), int)
        ends = _numbers(path, piece.find("Polys/DataArray[@Name='offsets']"), int)
        if len(corners) and (corners.min() < 0 or corners.max() >= len(own) or ends[-1] != len(corners)):
            raise BiokinError(f"{path}: its polygons name points that are not there: the file is damaged.")
        starts = np.concatenate([[0], ends[:-1]])
        sizes = ends - starts
        for k in range(1, max(sizes, default=0) - 1):  # the k-th triangle of every polygon that has one
            first = starts[sizes > k + 1]
            faces.append(np.stack([corners[first], corners[first + k], corners[first + k + 1]], 1) + count)
        points.append(own)
        count += len(own)
    if not faces:
        raise BiokinError(f"{path}: no polygons. Expected VTK PolyData with polygons.")
    return np.concatenate(points), np.concatenate(faces)


def _numbers(path: Path, array: ElementTree.Element | None, kind: type) -> np.ndarray:
    if array is None:
        raise BiokinError(f"{path}: points or polygons are missing. Expected VTK PolyData.")
    if array.get("format") != "ascii":
        raise BiokinError(
            f"{path}: its numbers are {array.get('format')!r}; expected 'ascii', as OpenSim writes them."
        )
    try:
        return np.array((array.text or "").split(), dtype=kind)
    except ValueError as error:
        raise BiokinError(f"{path}: cannot be read as VTK PolyData ({error}).") from error
