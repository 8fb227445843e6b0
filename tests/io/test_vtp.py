"""Bone geometry: what is written by hand, and what Pose2Sim ships, as another library reads it."""

from __future__ import annotations

import numpy as np
import pytest

from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.osim import pose2sim_geometry_dir
from pose2sim_biokin.io.vtp import read_vtp

TEMPLATE = """<?xml version="1.0"?>
<VTKFile type="PolyData" version="0.1" byte_order="LittleEndian">
 <PolyData><Piece NumberOfPoints="5" NumberOfPolys="2">
  <PointData><DataArray type="Float32" Name="Normals" format="ascii">9 9 9</DataArray></PointData>
  <Points><DataArray type="Float32" NumberOfComponents="3" format="{format}">
    0 0 0  1 0 0  1 1 0  0 1 0  .5 .5 1</DataArray></Points>
  <Polys><DataArray type="Int32" Name="connectivity" format="ascii">{corners}</DataArray>
   <DataArray type="Int32" Name="offsets" format="ascii">4 7</DataArray></Polys>
 </Piece></PolyData></VTKFile>
"""


def _write(path, format="ascii", corners="0 1 2 3 0 1 4"):
    path.write_text(TEMPLATE.format(format=format, corners=corners), encoding="utf-8")
    return path


def test_polygons_become_fans(tmp_path):
    points, faces = read_vtp(_write(tmp_path / "a.vtp"))
    np.testing.assert_array_equal(points, [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0.5, 0.5, 1]])
    assert sorted(map(tuple, faces.tolist())) == [(0, 1, 2), (0, 1, 4), (0, 2, 3)]


@pytest.mark.parametrize("name", ["femur_r", "r_pelvis", "hat_ribs_scap"])
def test_same_surface_as_the_stl_beside_it(name):
    """Pose2Sim ships every bone as .stl too: the triangles cover the same area about the same middle."""
    points, faces = read_vtp(pose2sim_geometry_dir() / f"{name}.vtp")
    (area, middle), (other_area, other_middle) = map(_area, (points[faces], _stl(name)))
    assert area == pytest.approx(other_area, rel=1e-3)
    np.testing.assert_allclose(middle, other_middle, atol=1e-4)


def _area(corners):
    """Area of triangles (F, 3, 3), and its middle (3,)."""
    a, b, c = np.moveaxis(corners, 1, 0)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
    return area.sum(), (area[:, None] * corners.mean(axis=1)).sum(axis=0) / area.sum()


def _stl(name):
    """Corners (F, 3, 3) of an STL file in text: three lines "vertex x y z" a triangle."""
    text = (pose2sim_geometry_dir() / f"{name}.stl").read_text(encoding="ascii")
    rows = [line.split()[1:] for line in text.splitlines() if line.split()[:1] == ["vertex"]]
    return np.array(rows, dtype=float).reshape(-1, 3, 3)


def test_what_cannot_be_used_is_said(tmp_path):
    with pytest.raises(BiokinError, match="'binary'; expected 'ascii'"):
        read_vtp(_write(tmp_path / "a.vtp", format="binary"))
    with pytest.raises(BiokinError, match="the file is damaged"):
        read_vtp(_write(tmp_path / "a.vtp", corners="0 1 2 3 0 1 5"))
    with pytest.raises(BiokinError, match=r"a\.vtp: cannot be read"):
        read_vtp(_write(tmp_path / "a.vtp", corners="0 1 2 3 0 1 x"))
    (tmp_path / "b.vtp").write_text("<VTKFile><PolyData/></VTKFile>", encoding="utf-8")
    with pytest.raises(BiokinError, match="no polygons"):
        read_vtp(tmp_path / "b.vtp")
    with pytest.raises(BiokinError, match=r"c\.vtp: cannot be read"):
        read_vtp(tmp_path / "c.vtp")
