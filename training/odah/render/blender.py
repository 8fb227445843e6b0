"""Frames of a scene folder by Blender. Runs inside a Python that has bpy, and speaks files only:

    python -m odah.render.blender SCENE_FOLDER OUT --camera 0 --frames 0,1,2 --engine cycles --samples 8

SCENE_FOLDER is what `odah.render.scene_files.write_scene` wrote, its cameras without lens distortion. OUT
gets `plate.npz` (the things alone, all of the picture) and `frame_000000.npz`...: `colour` (h, w, 3) float32
linear radiance, `cover` (h, w) float32 share of the subject as seen, and `box` x0, y0, x1, y1 of the part
of the picture that was drawn. A line "odah: <file>" on standard output follows each file.

Nothing here needs the rest of the package: the file itself can be run by another program's Python.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from pathlib import Path

import numpy as np

THING, SUBJECT = -1, 0
SHARP_RAD = 0.7  # edges of things that are sharper stay sharp, as in the rasteriser
SHADOW_REACH_M = 1.5  # shadows on the floor are drawn anew this far from the person
MARGIN_PX = 16
_CORNERS = ((-1, -1), (1, -1), (1, 1), (-1, 1))


def main(arguments: list[str] | None = None) -> int:
    """Render the frames asked for; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("scene", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--camera", type=int, default=0)
    parser.add_argument("--frames", default="0", help="numbers, separated by commas")
    parser.add_argument("--engine", choices=("cycles", "eevee"), default="cycles")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--plate-samples", type=int, default=32)
    parser.add_argument("--bounces", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="0: one for each processor")
    parser.add_argument("--no-denoise", action="store_true")
    parser.add_argument("--whole", action="store_true", help="draw all of every frame, without a plate")
    options = parser.parse_args(arguments)
    try:
        import bpy
    except ImportError as error:
        print(f"odah-error: bpy cannot be imported ({error})", flush=True)
        return 3
    if not (4, 5) <= bpy.app.version[:2] < (5, 0):
        print(f"odah-error: Blender {bpy.app.version_string} found, 4.5 expected", flush=True)
        return 3
    text = json.loads((options.scene / "scene.json").read_text(encoding="utf-8"))
    with np.load(options.scene / "scene.npz") as archive:
        arrays = {name: archive[name] for name in archive.files}
    options.out.mkdir(parents=True, exist_ok=True)
    stage = Stage(bpy, text, arrays, options)
    if not options.whole:
        stage.show(people=False)
        stage.set_samples(options.plate_samples)
        stage.render(options.out / "plate.npz", None)
        stage.show(people=True)
    stage.set_samples(options.samples)
    for frame in (int(f) for f in options.frames.split(",")):
        stage.pose(frame)
        box = None if options.whole else stage.changed(frame)
        stage.render(options.out / f"frame_{frame:06d}.npz", box)
    return 0


class Stage:
    """The scene inside Blender."""

    def __init__(self, bpy, text: dict, arrays: dict[str, np.ndarray], options: argparse.Namespace):
        self.bpy, self.text, self.arrays, self.options = bpy, text, arrays, options
        bpy.ops.wm.read_factory_settings(use_empty=True)
        self.scene = bpy.context.scene
        self.camera = text["cameras"][options.camera]
        self._engine()
        self._camera()
        self._world()
        for i, light in enumerate(text["lights"]):
            self._area(f"light{i}", {k: np.array(v) for k, v in light.items()})
        if text["sun"]:
            self._sun(text["sun"])
        self.objects = [(entry, self._mesh(entry)) for entry in text["meshes"]]
        self._folder = tempfile.TemporaryDirectory(prefix="odah-blender-")
        self._outputs()

    # --- what is rendered -----------------------------------------------------------------------------

    def _engine(self) -> None:
        scene, options = self.scene, self.options
        scene.render.film_transparent = False
        scene.render.use_persistent_data = True
        if options.threads:
            scene.render.threads_mode, scene.render.threads = "FIXED", options.threads
        if options.engine == "eevee":
            scene.render.engine = "BLENDER_EEVEE_NEXT"
            scene.eevee.use_shadows = True
            return
        scene.render.engine = "CYCLES"
        cycles = scene.cycles
        cycles.device = "CPU"
        cycles.use_adaptive_sampling = False
        cycles.use_denoising = not options.no_denoise
        cycles.denoising_prefilter = "FAST"  # half the time of a small picture, for 0.4 of 255 levels
        cycles.max_bounces = options.bounces
        cycles.diffuse_bounces = cycles.glossy_bounces = options.bounces
        cycles.transmission_bounces = 0
        cycles.transparent_max_bounces = 4  # lamps are clear from behind
        cycles.caustics_reflective = cycles.caustics_refractive = False
        cycles.sample_clamp_indirect = 10.0
        cycles.seed = 0

    def set_samples(self, count: int) -> None:
        """Samples a pixel."""
        if self.options.engine == "eevee":
            self.scene.eevee.taa_render_samples = count
        else:
            self.scene.cycles.samples = count

    def _camera(self) -> None:
        entry, scene = self.camera, self.scene
        width, height = entry["width"], entry["height"]
        K, R, t = (np.array(entry[k]) for k in ("K", "R", "t"))
        data = self.bpy.data.cameras.new("camera")
        data.sensor_fit, data.sensor_width = "HORIZONTAL", 36.0
        data.lens = K[0, 0] * 36.0 / width
        data.clip_start, data.clip_end = 0.05, 1000.0
        # pixel centres lie at whole numbers here, at halves in Blender; its y points up
        aspect = K[0, 0] / K[1, 1]
        data.shift_x = (width / 2 - (K[0, 2] + 0.5)) / width
        data.shift_y = ((K[1, 2] + 0.5) - height / 2) * aspect / width
        render = scene.render
        render.resolution_x, render.resolution_y, render.resolution_percentage = width, height, 100
        render.pixel_aspect_x, render.pixel_aspect_y = max(1.0, 1 / aspect), max(1.0, aspect)
        turn = np.eye(4)
        turn[:3, :3] = R.T @ np.diag([1.0, -1.0, -1.0])
        turn[:3, 3] = -R.T @ t
        self._object("camera", data, turn)
        scene.camera = self.bpy.data.objects["camera"]

    def _object(self, name: str, data, matrix: np.ndarray | None = None):
        item = self.bpy.data.objects.new(name, data)
        if matrix is not None:
            from mathutils import Matrix

            item.matrix_world = Matrix(matrix.tolist())
        self.scene.collection.objects.link(item)
        return item

    def _world(self) -> None:
        """The gradient of `odah.render.light.sky_radiance`."""
        world = self.bpy.data.worlds.new("sky")
        self.scene.world = world
        world.use_nodes = True
        world.cycles.sampling_method = "NONE"  # so smooth a sky is as well sampled by what looks at it
        nodes, links = world.node_tree.nodes, world.node_tree.links
        sky = {k: (*v, 1.0) for k, v in self.text["sky"].items()}
        direction = nodes.new("ShaderNodeTexCoord")
        split = nodes.new("ShaderNodeSeparateXYZ")
        links.new(direction.outputs["Generated"], split.inputs[0])
        root = nodes.new("ShaderNodeMath")
        root.operation = "POWER"
        root.use_clamp = True
        root.inputs[1].default_value = 0.5
        links.new(split.outputs["Z"], root.inputs[0])
        below = nodes.new("ShaderNodeMath")
        below.operation = "GREATER_THAN"
        below.inputs[1].default_value = 0.0
        links.new(split.outputs["Z"], below.inputs[0])
        above = self._mix(nodes, links, root.outputs[0], sky["horizon"], sky["zenith"])
        whole = self._mix(nodes, links, below.outputs[0], sky["ground"], above)
        links.new(whole, nodes["Background"].inputs["Color"])
        nodes["Background"].inputs["Strength"].default_value = 1.0

    @staticmethod
    def _mix(nodes, links, factor, a, b):
        node = nodes.new("ShaderNodeMix")
        node.data_type = "RGBA"
        links.new(factor, node.inputs[0])
        for socket, value in ((node.inputs[6], a), (node.inputs[7], b)):
            if isinstance(value, tuple):
                socket.default_value = value
            else:
                links.new(value, socket)
        return node.outputs[2]

    def _area(self, name: str, light: dict[str, np.ndarray]) -> None:
        u, v = light["u"], light["v"]
        data = self.bpy.data.lights.new(name, "AREA")
        data.shape, data.size, data.size_y = "RECTANGLE", 2 * _length(u), 2 * _length(v)
        strongest = float(light["radiance"].max())
        data.color = (light["radiance"] / max(strongest, 1e-9)).tolist()
        # Blender takes watts: a lamp of area A that looks the same from everywhere sends out pi A radiance
        data.energy = strongest * math.pi * data.size * data.size_y
        turn = np.eye(4)
        x, y = u / _length(u), v / _length(v)
        # it shines along its own -z, the scene's lamps along cross(u, v)
        turn[:3, :3] = np.stack([x, -y, -np.cross(x, y)], 1)
        turn[:3, 3] = light["centre"]
        self._object(name, data, turn)
        self._panel(f"{name} panel", light)

    def _panel(self, name: str, light: dict[str, np.ndarray]) -> None:
        """The bright rectangle that a camera sees of a lamp (Blender's own lamps cannot be seen)."""
        c, u, v = light["centre"], light["u"], light["v"]
        mesh = self.bpy.data.meshes.new(name)
        mesh.from_pydata([(c + a * u + b * v).tolist() for a, b in _CORNERS], [], [(0, 1, 2, 3)])
        material = self.bpy.data.materials.new(name)
        material.use_nodes = True
        nodes, links = material.node_tree.nodes, material.node_tree.links
        nodes.clear()
        glow, side = nodes.new("ShaderNodeEmission"), nodes.new("ShaderNodeNewGeometry")
        clear, mix = nodes.new("ShaderNodeBsdfTransparent"), nodes.new("ShaderNodeMixShader")
        output = nodes.new("ShaderNodeOutputMaterial")
        glow.inputs["Color"].default_value = (*light["radiance"].tolist(), 1.0)
        links.new(side.outputs["Backfacing"], mix.inputs[0])
        links.new(glow.outputs[0], mix.inputs[1])
        links.new(clear.outputs[0], mix.inputs[2])
        links.new(mix.outputs[0], output.inputs["Surface"])
        mesh.materials.append(material)
        item = self._object(name, mesh)
        item.visible_diffuse = item.visible_glossy = item.visible_shadow = False

    def _sun(self, sun: dict) -> None:
        data = self.bpy.data.lights.new("sun", "SUN")
        irradiance = np.array(sun["irradiance"])
        data.energy = float(irradiance.max())
        data.color = (irradiance / max(data.energy, 1e-9)).tolist()
        data.angle = sun["angle"]
        z = np.array(sun["direction"]) / _length(np.array(sun["direction"]))
        x = np.cross([0, 1, 0] if abs(z[2]) > 0.9 else [0, 0, 1], z)
        x /= _length(x)
        turn = np.eye(4)
        turn[:3, :3] = np.stack([x, np.cross(z, x), z], 1)
        self._object("sun", data, turn)

    def _mesh(self, entry: dict):
        key = entry["arrays"]
        vertices, faces, uv = (self.arrays[f"{key}.{name}"] for name in ("vertices", "faces", "uv"))
        mesh = self.bpy.data.meshes.new(entry["name"])
        mesh.vertices.add(vertices.shape[1])
        mesh.vertices.foreach_set("co", vertices[0].ravel())
        mesh.loops.add(faces.size)
        mesh.loops.foreach_set("vertex_index", faces.ravel())
        mesh.polygons.add(len(faces))
        mesh.polygons.foreach_set("loop_start", np.arange(0, faces.size, 3, dtype=np.int32))
        layer = mesh.uv_layers.new(name="uv")
        layer.uv.foreach_set("vector", uv[faces.ravel()].ravel())
        mesh.update(calc_edges=True)
        mesh.shade_smooth()
        if entry["person"] == THING and len(vertices) == 1:
            mesh.set_sharp_from_angle(angle=SHARP_RAD)
        mesh.materials.append(self._material(entry))
        return self._object(entry["name"], mesh)

    def _material(self, entry: dict):
        material = self.bpy.data.materials.new(entry["name"])
        material.use_nodes = True
        nodes, links = material.node_tree.nodes, material.node_tree.links
        shader = nodes["Principled BSDF"]
        shader.inputs["Roughness"].default_value = entry["roughness"]
        shader.inputs["Specular IOR Level"].default_value = entry["specular"]
        shader.inputs["Metallic"].default_value = entry["metallic"]
        texture = self.arrays[f"{entry['arrays']}.texture"]
        height, width = texture.shape[:2]
        image = self.bpy.data.images.new(entry["name"], width, height, alpha=False)
        pixels = np.ones((height, width, 4), np.float32)
        pixels[..., :3] = texture[::-1] / np.float32(255)  # Blender counts rows from below
        image.pixels.foreach_set(pixels.ravel())
        image.update()
        node = nodes.new("ShaderNodeTexImage")
        node.image, node.extension, node.interpolation = image, "REPEAT", "Linear"
        links.new(node.outputs["Color"], shader.inputs["Base Color"])
        cover = nodes.new("ShaderNodeOutputAOV")
        cover.aov_name = "subject"
        cover.inputs["Value"].default_value = 1.0 if entry["person"] == SUBJECT else 0.0
        return material

    # --- frames ---------------------------------------------------------------------------------------

    def _moves(self, entry: dict) -> bool:
        return entry["person"] != THING or len(self.arrays[f"{entry['arrays']}.vertices"]) > 1

    def show(self, people: bool) -> None:
        """Hide or show all that moves."""
        for entry, item in self.objects:
            if self._moves(entry):
                item.hide_render = not people

    def pose(self, frame: int) -> None:
        """Put all that moves where it is in a frame."""
        for entry, item in self.objects:
            vertices = self.arrays[f"{entry['arrays']}.vertices"]
            if len(vertices) > 1:
                item.data.vertices.foreach_set("co", vertices[min(frame, len(vertices) - 1)].ravel())
                item.data.update()

    def changed(self, frame: int) -> tuple[int, int, int, int] | None:
        """x0, y0, x1, y1 (ends not included) of the picture that people and their shadows change."""
        moving = [e for e, _ in self.objects if self._moves(e)]
        if not moving:
            return 0, 0, 1, 1
        places = []
        for entry in moving:
            vertices = self.arrays[f"{entry['arrays']}.vertices"]
            points = vertices[min(frame, len(vertices) - 1)].astype(np.float64)
            points = points[:: max(1, len(points) // 2000)]
            places += [points, *self._on_floor(points)]
        points = np.concatenate(places) @ np.array(self.camera["R"]).T + np.array(self.camera["t"])
        if (points[:, 2] < 0.05).any():
            return None
        K = np.array(self.camera["K"])
        pixels = points[:, :2] / points[:, 2:] * [K[0, 0], K[1, 1]] + K[:2, 2]
        size = np.array([self.camera["width"], self.camera["height"]])
        low = np.clip(np.floor(pixels.min(0)) - MARGIN_PX, 0, size - 1).astype(int)
        high = np.clip(np.ceil(pixels.max(0)) + MARGIN_PX, low + 1, size).astype(int)
        return int(low[0]), int(low[1]), int(high[0]), int(high[1])

    def _on_floor(self, points: np.ndarray) -> list[np.ndarray]:
        """Where lamps and sun throw the shadows of points (P, 3) on the floor, not too far away."""
        shadows = []
        for light in self.text["lights"]:
            lamp = np.array(light["centre"])
            below = points[points[:, 2] < lamp[2] - 0.2]
            rate = lamp[2] / (lamp[2] - below[:, 2:])
            shadows.append(lamp + (below - lamp) * rate)
        if self.text["sun"]:
            direction = np.array(self.text["sun"]["direction"])
            if direction[2] > 0.05:
                shadows.append(points - direction * (points[:, 2:] / direction[2]))
        middle = points[:, :2].mean(0)
        reach = np.linalg.norm(points[:, :2] - middle, axis=1).max() + SHADOW_REACH_M
        kept = []
        for shadow in shadows:
            offset = shadow[:, :2] - middle
            far = np.maximum(np.linalg.norm(offset, axis=1, keepdims=True) / reach, 1.0)
            kept.append(np.concatenate([middle + offset / far, shadow[:, 2:]], 1))
        return kept

    def _outputs(self) -> None:
        """Radiance and the subject's share, as EXR files beside each other."""
        layer = self.scene.view_layers[0]
        aov = layer.aovs.add()
        aov.name, aov.type = "subject", "VALUE"
        self.scene.use_nodes = True
        tree = self.scene.node_tree
        tree.nodes.clear()
        passes = tree.nodes.new("CompositorNodeRLayers")
        self._node = tree.nodes.new("CompositorNodeOutputFile")
        self._node.base_path = self._folder.name
        self._node.format.file_format = "OPEN_EXR"
        self._node.format.color_depth, self._node.format.exr_codec = "32", "NONE"
        self._node.file_slots.clear()
        for name, output in (("colour", "Image"), ("cover", "subject")):
            self._node.file_slots.new(name)
            tree.links.new(passes.outputs[output], self._node.inputs[name])
        self.scene.render.image_settings.file_format = "OPEN_EXR"

    def render(self, target: Path, box: tuple[int, int, int, int] | None) -> None:
        """Draw a part of the picture (all of it when None) and write it to an archive."""
        render = self.scene.render
        width, height = self.camera["width"], self.camera["height"]
        x0, y0, x1, y1 = box or (0, 0, width, height)
        render.use_border = render.use_crop_to_border = box is not None
        render.border_min_x, render.border_max_x = border(x0, x1, width)
        render.border_min_y, render.border_max_y = border(height - y1, height - y0, height)
        self.bpy.ops.render.render(write_still=False)
        colour, cover = (self._read(name) for name in ("colour", "cover"))
        expected = (y1 - y0, x1 - x0)
        if colour.shape[:2] != expected:
            raise RuntimeError(f"Blender drew {colour.shape[:2]} pixels where {expected} were asked for")
        partial = target.with_name(target.name + ".part")
        with partial.open("wb") as file:
            np.savez(file, colour=colour[..., :3], cover=cover[..., 0], box=np.array([x0, y0, x1, y1]))
        partial.replace(target)
        print(f"odah: {target.name}", flush=True)

    def _read(self, name: str) -> np.ndarray:
        """(h, w, 4) float32, row 0 at the top, of the file Blender just wrote."""
        (path,) = Path(self._folder.name).glob(f"{name}*.exr")
        image = self.bpy.data.images.load(str(path))
        width, height = image.size
        pixels = np.empty(width * height * image.channels, np.float32)
        image.pixels.foreach_get(pixels)
        pixels = pixels.reshape(height, width, image.channels)[::-1].copy()
        self.bpy.data.images.remove(image)
        path.unlink()
        return pixels


def border(low: int, high: int, size: int) -> tuple[float, float]:
    """Shares of `size` that Blender, which cuts single-precision products off, takes for two pixels."""
    return (low + 0.25) / size, min((high + 0.25) / size, 1.0)


def _length(vector: np.ndarray) -> float:
    return float(np.linalg.norm(vector))


if __name__ == "__main__":
    raise SystemExit(main())
