"""A small filmed person whose motion is known: a Pose2Sim project, and stand-ins for the networks.

The person is a figure of thick red bones on a dark ground, a bystander is blue; the stand-in for the
segmenter sees colours, the stand-in for the network knows the motion. What lies between is the real thing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np

from pose2sim_biokin.io.calibration import write_calibration
from pose2sim_biokin.motion import FrameQuality, Motion
from pose2sim_biokin.overlay import StickFigure, stick_figure
from pose2sim_biokin.skeleton import load_skeleton
from pose2sim_biokin.vision.camera import Camera
from pose2sim_biokin.vision.crops import look_rotation
from pose2sim_biokin.vision.masks import PersonInstance

SIZE = (320, 240)
FPS = 30.0
RED, BLUE = (40, 40, 230), (230, 60, 40)


@dataclass
class Scene:
    """A project on disk and the truth about it."""

    project_dir: Path
    cameras: list[Camera]
    motion: Motion
    figure: StickFigure
    config_dict: dict = field(default_factory=dict)


def camera_at(name: str, angle_deg: float, distance: float = 4.0) -> Camera:
    """A camera 1.3 m high that looks at the world's vertical axis from an angle, with a little distortion."""
    angle = np.deg2rad(angle_deg)
    center = np.array([distance * np.cos(angle), distance * np.sin(angle), 1.3])
    R = look_rotation(np.array([0.0, 0.0, 0.95]) - center)
    K = np.array([[300.0, 0, 160], [0, 300.0, 120], [0, 0, 1]])
    return Camera(name, *SIZE, K, np.array([0.03, -0.01, 0.0, 0.0]), R, -R @ center)


def walking(count: int, skeleton) -> Motion:
    """Somebody who walks through the origin, swinging arms and legs."""
    time = np.arange(count) / FPS
    coordinates = np.zeros((count, len(skeleton.coordinate_names)))

    def put(name, values):
        coordinates[:, skeleton.coordinate_index(name)] = values

    put("pelvis_tx", -0.2 + 0.5 * time)
    put("pelvis_ty", 0.93)
    swing = np.sin(2 * np.pi * time)
    for side, sign in (("r", 1), ("l", -1)):
        put(f"hip_flexion_{side}", 0.4 * sign * swing)
        put(f"knee_angle_{side}", 0.4 - 0.3 * sign * swing)
        put(f"arm_flex_{side}", -0.4 * sign * swing)
        put(f"elbow_flex_{side}", 0.5)
    scales = np.ones((len(skeleton.body_names), 3))
    scales[:, 1] = 1.05
    return Motion(time, coordinates, scales, skeleton.name)


def draw_person(camera: Camera, figure: StickFigure, row: int, colour, shift=(0.0, 0.0, 0.0)) -> np.ndarray:
    """Picture (H, W, 3) of a figure with limbs 16 cm thick."""
    image = np.full((camera.height, camera.width, 3), 25, np.uint8)
    points = figure.points[row] + np.asarray(shift)
    pixels = camera.project(points)
    depth = camera.world_to_camera(points)[:, 2].mean()
    width = max(2, round(0.16 * camera.K[0, 0] / depth))
    for a, b, _ in figure.links:
        cv2.line(image, *(tuple(np.round(pixels[i]).astype(int)) for i in (a, b)), colour, width)
    return image


def make_scene(
    folder: Path,
    angles=(0, 100, 200),
    count=24,
    absent=(),
    bystander_in=(),
    bystander_up=0.0,
    views="auto",
    **biokin,
) -> Scene:
    """Write a project: one camera an angle; nobody is seen in the frames of ``absent``.

    ``bystander_in``: indices of cameras that also see a blue person of the same size, elsewhere.
    """
    skeleton = load_skeleton()
    motion = walking(count, skeleton)
    figure = stick_figure(motion, skeleton)
    cameras = [camera_at(f"cam{i + 1:02d}", angle) for i, angle in enumerate(angles)]
    (folder / "videos").mkdir(parents=True)
    (folder / "calibration").mkdir()
    write_calibration(folder / "calibration" / "Calib.toml", cameras)
    for i, camera in enumerate(cameras):
        path = folder / "videos" / f"{camera.name}.avi"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), FPS, SIZE)
        for row in range(count):
            image = np.full((camera.height, camera.width, 3), 25, np.uint8)
            if i in bystander_in:
                shift = 1.1 * camera.R[0] + (0, 0, bystander_up)  # to the right of the person
                image = np.maximum(image, draw_person(camera, figure, row, BLUE, shift))
            if row not in absent:
                image = np.maximum(image, draw_person(camera, figure, row, RED))
            writer.write(image)
        writer.release()
    config_dict = {
        "project": {"project_dir": str(folder), "participant_mass": 65.0},
        "biokin": {"views": views, "segmentation": "colours", "device": "cpu", **biokin},
        "kinematics": {},
    }
    return Scene(folder, cameras, motion, figure, config_dict)


class ColourSegmenter:
    """A segmenter plugin that finds red and blue people."""

    name = "colours"
    description = "colours, for the tests"

    def __init__(self, interrupt_at: int | None = None):
        self.seen: list[tuple[str, int]] = []
        self.interrupt_at = interrupt_at

    def load(self, spec, *, device, batch_size, project_dir):
        assert spec == "colours" and isinstance(device, str) and Path(project_dir).is_dir()
        self.batch_size = batch_size
        return self

    def segment(self, images, camera, frames):
        assert len(images) == len(frames) <= self.batch_size
        self.seen += [(camera, frame) for frame in frames]
        if self.interrupt_at is not None and len(self.seen) > self.interrupt_at:
            raise KeyboardInterrupt
        return [self._people(image) for image in images]

    @staticmethod
    def _people(image):
        people = []
        for channel, other in ((2, 0), (0, 2)):
            mask = (image[..., channel] > 120) & (image[..., other] < 120)
            if mask.sum() > 200:
                rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
                box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
                people.append(PersonInstance(mask, tuple(map(float, box)), 0.9))
        return people


class KnowingPredictor:
    """Stands in for the network: it knows the motion, and keeps what it was shown."""

    image_size = 64
    device = "cpu"
    skeleton = "rajagopal2016"

    def __init__(self, scene: Scene):
        self.scene = scene
        self.shown = None

    def predict(self, views, time, *, max_gap_s=0.5, progress=None):
        self.shown = SimpleNamespace(views=views, time=time, max_gap_s=max_gap_s)
        truth = self.scene.motion
        rows = np.round(time * FPS).astype(int)
        found = np.stack([view.found for view in views], axis=1)
        both = found.all(axis=1)
        coordinates = truth.coordinates[rows].copy()
        gap = ~both
        filled = np.zeros(len(rows), bool)
        for start, stop in _runs(gap):
            inside = start > 0 and stop < len(rows)
            if inside and (stop - start) / FPS <= max_gap_s:
                filled[start:stop] = True
            else:
                coordinates[start:stop] = np.nan
        if progress is not None:
            progress("Joint angles", len(rows), len(rows))
        nothing = np.full(len(rows), np.nan)
        quality = FrameQuality(
            found, filled, nothing, np.full((len(rows), 3), np.nan), np.full((len(rows), 2), np.nan), nothing
        )
        return Motion(time, coordinates, truth.scales, truth.skeleton, quality, {"device": "cpu"})


class WrongPredictor(KnowingPredictor):
    """A network that is 17 degrees off at a knee and 40 mm too high."""

    def predict(self, views, time, **options):
        motion = super().predict(views, time, **options)
        index = load_skeleton(self.skeleton).coordinate_index
        motion.coordinates[:, index("knee_angle_r")] += np.radians(17)
        motion.coordinates[:, index("pelvis_ty")] += 0.04
        return motion


def _runs(flags: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.diff(np.concatenate([[0], flags, [0]]))).reshape(-1, 2)
