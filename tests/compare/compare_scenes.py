"""Results whose motion is known: models, motion files, and whole small projects."""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from pose2sim_biokin.compare.result import BackendResult, read_result
from pose2sim_biokin.io.calibration import write_calibration
from pose2sim_biokin.io.mot import write_mot
from pose2sim_biokin.io.osim import write_osim
from pose2sim_biokin.skeleton import load_skeleton
from pose2sim_biokin.vision.camera import Camera
from pose2sim_biokin.vision.crops import look_rotation

SETUP = Path(importlib.util.find_spec("Pose2Sim").submodule_search_locations[0]) / "OpenSim_Setup"
SIMPLE = SETUP / "Model_Pose2Sim_simple.osim"
FLEX = SETUP / "Model_Pose2Sim_muscles_flex.osim"
RATE = 50.0
# Lumbar coordinates of Pose2Sim's models -> Rajagopal's.
LUMBAR = {
    "L5_S1_Flex_Ext": "lumbar_extension",
    "L5_S1_Lat_Bending": "lumbar_bending",
    "L5_S1_axial_rotation": "lumbar_rotation",
}


def sines(time: np.ndarray, names, amplitude: float = 0.3) -> dict[str, np.ndarray]:
    """Coordinate -> sine of its own phase, rad, 1 Hz; coordinates that are couplers' or locked stay zero."""
    still = ("beta", "subtalar", "mtp", "wrist", "pelvis_t")
    return {
        name: amplitude * np.sin(2 * np.pi * time + k)
        for k, name in enumerate(names)
        if not any(part in name for part in still)
    }


def write_result(
    folder: Path, stem: str, time: np.ndarray, values: dict[str, np.ndarray], model: Path | None = None
) -> tuple[Path, Path]:
    """Write a model (Rajagopal's when absent) and a motion of it; coordinates not named are zero."""
    folder.mkdir(parents=True, exist_ok=True)
    skeleton = load_skeleton(model) if model is not None else load_skeleton()
    osim = folder / f"{stem}.osim"
    osim.write_bytes(model.read_bytes() if model is not None else _rajagopal())
    coordinates = np.zeros((len(time), len(skeleton.coordinate_names)))
    for name, value in values.items():
        coordinates[:, skeleton.coordinate_index(name)] = value
    return osim, write_mot(folder / f"{stem}.mot", time, coordinates, skeleton)


@cache
def _rajagopal() -> bytes:
    """The built-in skeleton as an .osim file; OpenSim takes a second to write it."""
    with TemporaryDirectory() as folder:
        return write_osim(Path(folder) / "rajagopal2016.osim", load_skeleton()).read_bytes()


def result_of(
    folder: Path, label: str, time: np.ndarray, values: dict[str, np.ndarray], model: Path | None = None
) -> BackendResult:
    """Write a result and read it back."""
    return read_result(*write_result(folder, label, time, values, model), label)


def write_project(folder: Path, text: str = "") -> Path:
    """A trial's folder with a Config.toml and nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Config.toml").write_text(f"[project]\nframe_rate = {RATE:g}\n{text}\n", encoding="utf-8")
    return folder


def cameras(count: int = 3) -> list[Camera]:
    """Cameras without distortion around the world's vertical axis, 1.5 m high, 5 m away."""
    K = np.array([[900.0, 0, 640], [0, 900.0, 480], [0, 0, 1]])
    found = []
    for i in range(count):
        angle = 0.3 + 2 * np.pi * i / count
        center = np.array([5 * np.cos(angle), 5 * np.sin(angle), 1.5])
        R = look_rotation(np.array([0.0, 0.0, 0.95]) - center)
        found.append(Camera(f"cam{i + 1:02d}", 1280, 960, K, np.zeros(4), R, -R @ center))
    return found


def write_poses(folder: Path, points: dict[str, np.ndarray], ids: dict[str, int]) -> None:
    """2D poses as a pose estimator writes them, by projecting points, name -> (T, 3) m in the world."""
    views = cameras()
    (folder / "calibration").mkdir()
    write_calibration(folder / "calibration" / "Calib.toml", views)
    count = len(next(iter(points.values())))
    for camera in views:
        place = folder / "pose" / f"{camera.name}_json"
        place.mkdir(parents=True)
        pixels = {name: camera.project(at) for name, at in points.items()}
        for t in range(count):
            flat = np.zeros((max(ids.values()) + 1, 3))
            for name, number in ids.items():
                flat[number] = (*pixels[name][t], 0.95)
            person = {"person_id": [-1], "pose_keypoints_2d": flat.ravel().tolist()}
            text = json.dumps({"version": 1.3, "people": [person]})
            (place / f"{camera.name}_{t:06d}.json").write_text(text, encoding="utf-8")
