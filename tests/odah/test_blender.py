"""Blender and the rasteriser on the same scene. Needs bpy, here or where ODAH_BLENDER_PYTHON says."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

from odah.render.blender import border
from odah.render.blender_runner import PYTHON_VARIABLE, BlenderSettings, blender_render
from odah.render.scene_raster import render_scene
from odah.scenes.scene import SUBJECT, Mesh, Sky
from pose2sim_biokin.errors import BiokinError

from .render_scenes import EVEN, ball, grey, lamp, look, quad, scene

HAS_BPY = importlib.util.find_spec("bpy") is not None or bool(os.environ.get(PYTHON_VARIABLE))
needs_bpy = pytest.mark.skipif(not HAS_BPY, reason="bpy is not installed")


def test_without_bpy_the_error_says_what_to_install(tmp_path):
    if importlib.util.find_spec("bpy") is not None:
        pytest.skip("bpy is installed here")
    small = scene([quad("floor", [-1, -1, 0], [2, 0, 0], [0, 2, 0], grey(99))], look([0, -3, 1], [0, 0, 1]))
    with pytest.raises(BiokinError, match=r"pip install pose2sim_biokin\[blender\]"):
        list(blender_render(small, 0, [0], BlenderSettings(python=sys.executable)))


def test_a_python_that_dies_is_reported(tmp_path):
    small = scene([ball("b", np.zeros((1, 3)), 1, grey(99), rings=4)], look([0, -3, 1], [0, 0, 1]))
    broken = tmp_path / ("python.bat" if os.name == "nt" else "python.sh")
    text = "@exit 7" if os.name == "nt" else "#!/bin/sh\necho out of breath\nexit 7\n"
    broken.write_text(text, encoding="utf-8")
    broken.chmod(0o755)
    with pytest.raises(BiokinError, match="status 7"):
        list(blender_render(small, 0, [0], BlenderSettings(python=str(broken))))


@pytest.mark.parametrize("size", [97, 384, 389, 503, 1080, 1933])
def test_borders_are_the_pixels_asked_for(size):
    """As Blender works them out: a single-precision share times the size, cut off."""
    low = np.arange(size)
    shares = np.array([border(n, n + 1, size) for n in low], np.float32)
    assert (np.trunc(shares * np.float32(size)) == np.stack([low, low + 1], 1)).all()
    assert shares.max() <= 1


def person() -> Mesh:
    """A body in its rest pose, feet on the floor."""
    from odah.bodies.open_body import OpenBody
    from pose2sim_biokin.skeleton.rotations import ground_to_world

    body = OpenBody("coarse")
    vertices = ground_to_world(body.sample_subject(11).vertices).numpy()
    vertices = vertices - [*vertices[:, :2].mean(0), vertices[:, 2].min()]
    return Mesh(
        "person",
        np.stack([vertices, vertices + [0.2, 0.3, 0.0]]).astype(np.float32),
        body.faces.numpy().astype(np.int32),
        body.uv.numpy(),
        grey(150),
        SUBJECT,
    )


@needs_bpy
def test_both_renderers_see_the_same_person_and_the_same_light():
    camera = look(
        *([2.2, -2.4, 1.3], [0.1, 0.1, 0.9]),
        size=(400, 500),
        focal=520.0,
        distortion=(-0.15, 0.03, 0.001, 0.0),
        roll=0.1,
    )
    meshes = [
        person(),
        quad("floor", [-4, -4, 0], [8, 0, 0], [0, 8, 0], grey(140)),
        quad("screen", [0.3, -0.7, 0], [0.8, 0, 0], [0, 0, 0.6], grey(60), two_sided=True),
    ]
    the_scene = scene(
        meshes,
        camera,
        lights=[lamp([0.5, -1.0, 2.6], half=0.4, radiance=9.0)],
        sky=Sky(np.full(3, 0.3), np.full(3, 0.25), np.full(3, 0.1)),
        frames=2,
    )
    settings = BlenderSettings(samples=8, plate_samples=8, bounces=2)
    fast = list(render_scene(the_scene, 0, [0, 1]))
    slow = list(blender_render(the_scene, 0, [0, 1], settings))
    for a, b in zip(fast, slow, strict=True):
        assert (a.mask & b.mask).sum() / (a.mask | b.mask).sum() > 0.985  # 0.99 at the usual size
        assert (a.amodal & ~a.mask).sum() > 100  # the screen hides something
        assert a.image[a.mask].mean() == pytest.approx(b.image[b.mask].mean(), rel=0.08)
        assert a.image.mean() == pytest.approx(b.image.mean(), rel=0.05)
    assert not np.array_equal(slow[0].mask, slow[1].mask)


@needs_bpy
def test_the_module_runs_on_its_own(tmp_path):
    from odah.render.scene_files import write_scene

    camera = look([0, -3, 1], [0, 0, 1], size=(64, 48), focal=60.0)
    write_scene(scene([ball("b", np.array([[0, 0, 1.0]]), 0.4, grey(128))], camera, sky=EVEN), tmp_path / "s")
    python = os.environ.get(PYTHON_VARIABLE) or sys.executable
    import odah.render.blender as worker

    command = [python, worker.__file__, tmp_path / "s", tmp_path / "o", "--whole", "--samples", "4"]
    subprocess.run([str(c) for c in command], check=True, capture_output=True)
    with np.load(tmp_path / "o" / "frame_000000.npz") as data:
        # under light that is the same from everywhere a surface shows its albedo (0.216 for sRGB 128)
        assert data["colour"][24, 32] == pytest.approx([0.216] * 3, rel=0.03)
        assert data["cover"].sum() == pytest.approx(np.pi * (60 * np.tan(np.arcsin(0.4 / 3))) ** 2, rel=0.03)
