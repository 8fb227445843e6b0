"""A scene as a folder, `scene.json` beside `scene.npz`: what another program (Blender) is given to render.

Numbers and names are in the JSON file, arrays in the archive under the names the JSON file mentions
("mesh3.vertices"). Reading it takes numpy alone.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from odah.scenes.scene import AreaLight, Material, Mesh, Scene, Sky, Sun
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.atomic import OutputSet
from pose2sim_biokin.vision.camera import Camera

VERSION = 1


def write_scene(scene: Scene, folder: str | Path) -> Path:
    """Write the scene into a folder (made if need be); returns it."""
    folder = Path(folder)
    arrays: dict[str, np.ndarray] = {}
    meshes = []
    for i, mesh in enumerate(scene.meshes):
        key = f"mesh{i}"
        arrays[f"{key}.vertices"] = np.asarray(mesh.vertices, np.float32)
        arrays[f"{key}.faces"] = np.asarray(mesh.faces, np.int32)
        arrays[f"{key}.uv"] = np.asarray(mesh.uv, np.float32)
        arrays[f"{key}.texture"] = np.asarray(mesh.material.texture, np.uint8)
        material = mesh.material
        meshes.append(
            {
                "arrays": key,
                "name": mesh.name,
                "person": int(mesh.person),
                "two_sided": bool(mesh.two_sided),
                "roughness": float(material.roughness),
                "specular": float(material.specular),
                "metallic": float(material.metallic),
            }
        )
    cameras = [
        {
            "name": camera.name,
            "width": camera.width,
            "height": camera.height,
            "fisheye": camera.fisheye,
            **{key: getattr(camera, key).tolist() for key in ("K", "distortion", "R", "t")},
        }
        for camera in scene.cameras
    ]
    text = {
        "version": VERSION,
        "frames": int(scene.frames),
        "fps": float(scene.fps),
        "exposure": [float(e) for e in scene.exposure],
        "sky": _plain(scene.sky),
        "sun": None if scene.sun is None else _plain(scene.sun),
        "lights": [_plain(light) for light in scene.lights],
        "cameras": cameras,
        "meshes": meshes,
        "notes": scene.notes,
    }
    with OutputSet() as outputs:
        with outputs.stage(folder / "scene.npz").open("wb") as file:
            np.savez(file, **arrays)
        path = outputs.stage(folder / "scene.json")
        path.write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")
        outputs.commit()
    return folder


def _plain(item: AreaLight | Sun | Sky) -> dict:
    return {k: v if isinstance(v, float) else np.asarray(v).tolist() for k, v in asdict(item).items()}


def read_scene(folder: str | Path) -> Scene:
    """Read what `write_scene` wrote.

    Raises:
        BiokinError: a file is missing, broken, or of another version.
    """
    folder = Path(folder)
    try:
        text = json.loads((folder / "scene.json").read_text(encoding="utf-8"))
        if text["version"] != VERSION:
            raise BiokinError(
                f"{folder / 'scene.json'}: version {text['version']}, expected {VERSION}; write it again."
            )
        with np.load(folder / "scene.npz", allow_pickle=False) as arrays:
            meshes = tuple(_mesh(entry, arrays) for entry in text["meshes"])
        arrays_of = {k: np.array(v, dtype=np.float64) for k, v in text["sky"].items()}
        return Scene(
            meshes=meshes,
            lights=tuple(AreaLight(**{k: np.array(v) for k, v in light.items()}) for light in text["lights"]),
            sun=None
            if text["sun"] is None
            else Sun(
                np.array(text["sun"]["direction"]),
                np.array(text["sun"]["irradiance"]),
                float(text["sun"]["angle"]),
            ),
            sky=Sky(**arrays_of),
            cameras=tuple(Camera(**camera) for camera in text["cameras"]),
            frames=text["frames"],
            fps=text["fps"],
            exposure=tuple(text["exposure"]),
            notes=text["notes"],
        )
    except FileNotFoundError as error:
        raise BiokinError(
            f"{folder}: not a scene folder, {Path(error.filename).name} is missing; write it with "
            "write_scene."
        ) from error
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise BiokinError(f"{folder}: the scene cannot be read ({error}); write it again.") from error


def _mesh(entry: dict, arrays) -> Mesh:
    key = entry["arrays"]
    return Mesh(
        name=entry["name"],
        vertices=arrays[f"{key}.vertices"],
        faces=arrays[f"{key}.faces"],
        uv=arrays[f"{key}.uv"],
        material=Material(arrays[f"{key}.texture"], entry["roughness"], entry["specular"], entry["metallic"]),
        person=entry["person"],
        two_sided=entry["two_sided"],
    )
