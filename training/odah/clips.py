"""A clip of the data set is a Pose2Sim trial folder, with its truth where Pose2Sim keeps results.

    Config.toml                  the trial's settings: `biokin run CLIP`, Pose2Sim.kinematics(CLIP)
    calibration/Calib.toml       cameras, lens distortion included
    videos/cam01.mp4, ...        H.264, constant frame rate
    masks/cam01.mp4, ...         the visible part of the subject, for segmentation = "masks"
    kinematics/truth.mot         coordinates, degrees and m
    kinematics/truth.osim        the scaled skeleton
    pose-3d/truth.trc            joint centres, mass centres and markers, m, OpenSim's ground
    truth.json                   what was drawn, scale factors, residuals, versions
    files.json                   SHA-256 of all other files

Frames are numbered from 0; time is frame / fps. A clip is written aside and renamed when it is complete.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from odah.whole import whole_folder
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.calibration import read_calibration, write_calibration
from pose2sim_biokin.io.mot import read_mot, write_mot
from pose2sim_biokin.io.osim import write_osim
from pose2sim_biokin.io.trc import MarkerTable, read_trc, write_trc
from pose2sim_biokin.io.video import VideoReader, VideoWriter
from pose2sim_biokin.motion import Motion
from pose2sim_biokin.skeleton import ForwardKinematics, Skeleton, load_skeleton
from pose2sim_biokin.vision.camera import Camera

FORMAT = "odah-clip-1"
CALIBRATION, ABOUT, FILES = "calibration/Calib.toml", "truth.json", "files.json"
MOT, OSIM, TRC = "kinematics/truth.mot", "kinematics/truth.osim", "pose-3d/truth.trc"
TRUTH_FILES = (
    "Config.toml",
    CALIBRATION,
    MOT,
    OSIM,
    TRC,
    ABOUT,
)  # the same bytes from every run of the same clip

_CONFIG = """\
# A synthetic recording: its true joint angles are in kinematics/truth.mot, the rest is in truth.json.

[project]
multi_person = false
participant_height = {height:.3f} # m
participant_mass = {mass:.1f} # kg
frame_rate = {fps:d}
frame_range = 'all'

[pose]
pose_model = 'Body_with_feet'
mode = 'balanced'
det_frequency = 4
device = 'auto'
backend = 'auto'
tracking_mode = 'sports2d'
display_detection = false
overwrite_pose = false
save_video = 'none'
output_format = 'openpose'

[synchronization]
synchronization_gui = false
display_sync_plots = false

[personAssociation]
likelihood_threshold_association = 0.3
   [personAssociation.single_person]
   reproj_error_threshold_association = 20
   tracked_keypoint = 'Neck'

[triangulation]
reproj_error_threshold_triangulation = 15
likelihood_threshold_triangulation = 0.3
min_cameras_for_triangulation = 2
interp_if_gap_smaller_than = 20
interpolation = 'linear'
show_interp_indices = false
fill_large_gaps_with = 'last_value'
make_c3d = false

[filtering]
type = 'butterworth'
display_figures = false
   [filtering.butterworth]
   cut_off_frequency = 6
   order = 4

[kinematics]
kinematics_backend = "biokin"
use_augmentation = false
right_left_symmetry = true
default_height = {height:.3f}

[biokin]
views = [{views}]
"""


class View(Protocol):
    """What a renderer yields for a frame of a camera."""

    image: np.ndarray  # (H, W, 3) uint8 BGR, as the lens shows it
    mask: np.ndarray  # (H, W) bool, the subject where it is visible


@dataclass(frozen=True)
class Clip:
    """A clip on disk, read and checked.

    Attributes:
        folder: the trial.
        cameras: in the calibration's order.
        fps: frames a second.
        motion: true coordinates (T, nc) rad and m, and scale factors (nb, 3).
        names: of the points: joints, mass centres ("<body>_com") and markers.
        points: (T, 2 nb + nm, 3) m, OpenSim's ground (X, Y, Z) = world (Y, Z, X).
        about: truth.json.
    """

    folder: Path
    cameras: tuple[Camera, ...]
    fps: float
    motion: Motion
    names: tuple[str, ...]
    points: np.ndarray = field(repr=False)
    about: dict = field(repr=False)

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.motion.time)

    @property
    def world_points(self) -> np.ndarray:
        """:attr:`points` in the world, Z up."""
        return self.points[..., [2, 0, 1]]

    def images(self, camera: int, frames: Iterable[int] | None = None) -> Iterator[np.ndarray]:
        """Frames (H, W, 3) uint8 BGR of a camera; rising frame numbers, all by default."""
        for _, image in VideoReader(_video(self.folder, "videos", self.cameras[camera])).frames(frames):
            yield image

    def masks(self, camera: int, frames: Iterable[int] | None = None) -> Iterator[np.ndarray]:
        """Masks (H, W) bool of a camera; rising frame numbers, all by default."""
        for _, image in VideoReader(_video(self.folder, "masks", self.cameras[camera])).frames(frames):
            yield image[..., 1] > 127


def write_clip(
    folder: str | Path,
    cameras: Sequence[Camera],
    views: Sequence[Iterable[View]],
    motion: Motion,
    skeleton: Skeleton,
    about: dict,
    *,
    fps: int,
    mass_kg: float,
    height_m: float,
    crf: int = 20,
) -> Path:
    """Write a clip; the folder appears when it is complete. A complete one that is there already stays.

    Args:
        folder: of the clip.
        cameras: of even width and height (H.264).
        views: one stream of frames a camera, as many as the motion has.
        motion: at times frame / fps; its scales are the subject's.
        skeleton: of the motion, unscaled.
        about: goes into truth.json beside what is written here; plain values.
        fps: whole frames a second.
        mass_kg, height_m: of the subject, for Config.toml and the masses of the .osim.
        crf: quality of the videos, 0 best to 51.

    Raises:
        BiokinError: no H.264 encoder, odd image sizes, a full disk or a folder that cannot be written.
    """
    folder = Path(folder)
    odd = [c for c in cameras if c.width % 2 or c.height % 2]
    if odd:
        raise BiokinError(f"{folder}: camera {odd[0].name} has {odd[0].size} pixels; H.264 needs even sizes.")
    with whole_folder(folder) as partial:
        for place in ("calibration", "videos", "masks", "kinematics", "pose-3d"):
            (partial / place).mkdir()
        names = ", ".join(f"'{camera.name}'" for camera in cameras)
        config = _CONFIG.format(height=height_m, mass=mass_kg, fps=fps, views=names)
        (partial / "Config.toml").write_text(config, encoding="utf-8", newline="\n")
        write_calibration(partial / CALIBRATION, list(cameras))
        write_mot(partial / MOT, motion.time, motion.coordinates, skeleton)
        write_osim(partial / OSIM, skeleton, motion.scales, mass_kg, name="truth")
        write_trc(partial / TRC, truth_points(motion, skeleton), fps)
        for camera, stream in zip(cameras, views, strict=True):
            _write_videos(partial, camera, stream, fps, crf, len(motion.time))
        scales = np.asarray(motion.scales, dtype=np.float64).tolist()
        truth = {
            "format": FORMAT,
            **about,
            "skeleton": motion.skeleton,
            "scales": dict(zip(skeleton.body_names, scales, strict=True)),
            "frames": len(motion.time),
            "fps": fps,
            "cameras": [camera.name for camera in cameras],
            "mass_kg": round(float(mass_kg), 3),
            "height_m": round(float(height_m), 4),
        }
        _write_json(partial / ABOUT, truth)
        files = sorted(p.relative_to(partial).as_posix() for p in partial.rglob("*") if p.is_file())
        _write_json(partial / FILES, {name: sha256(partial / name) for name in files})
    return folder


def read_clip(folder: str | Path, checksums: bool = False) -> Clip:
    """Read a clip and check that it is whole.

    Args:
        folder: of the clip.
        checksums: also compare the SHA-256 of every file.

    Raises:
        BiokinError: a file is missing or damaged, or files do not belong together; names the file.
    """
    folder = Path(folder)
    about, files = read_about(folder), read_files(folder)
    if checksums:
        changed = [name for name, digest in files.items() if sha256(folder / name) != digest]
        if changed:
            raise _half_there(folder, changed[0], "is not what was written")
    skeleton = load_skeleton(about["skeleton"])
    scales = np.array([about["scales"][name] for name in skeleton.body_names])
    table = read_mot(folder / MOT, skeleton)
    if table.names != skeleton.coordinate_names:
        raise _half_there(folder, MOT, f"has other columns than {skeleton.name}")
    points = read_trc(folder / TRC)
    cameras = tuple(read_calibration(folder / CALIBRATION))
    counts = {MOT: len(table.time), TRC: len(points.time)}
    for camera in cameras:
        for kind in ("videos", "masks"):
            info = VideoReader(_video(folder, kind, camera)).info
            counts[f"{kind}/{camera.name}.mp4"] = info.frame_count
            if (info.width, info.height) != camera.size:
                size = f"{info.width}x{info.height}"
                raise _half_there(
                    folder, f"{kind}/{camera.name}.mp4", f"has {size} pixels, not {camera.size}"
                )
    for name, count in counts.items():
        if count != about["frames"]:
            raise _half_there(folder, name, f"has {count} frames, not {about['frames']}")
    motion = Motion(table.time, table.coordinates, scales, about["skeleton"])
    return Clip(folder, cameras, float(about["fps"]), motion, points.names, points.points, about)


def read_about(folder: str | Path) -> dict:
    """truth.json of a clip.

    Raises:
        BiokinError: there is none, or it is of another format.
    """
    path = Path(folder) / ABOUT
    about = _read_json(path)
    found = about.get("format")
    if found != FORMAT:
        raise BiokinError(f"{path}: format {found!r}; expected {FORMAT!r}. It was made by another version.")
    lacks = [key for key in ("frames", "fps", "scales", "skeleton") if key not in about]
    if lacks:
        raise _half_there(path.parent, ABOUT, f"lacks {', '.join(lacks)}")
    return about


def read_files(folder: str | Path) -> dict[str, str]:
    """SHA-256 by name of a clip's files, all of which are there.

    Raises:
        BiokinError: one is missing, or there is no list of them.
    """
    folder = Path(folder)
    files = _read_json(folder / FILES)
    needed = {*TRUTH_FILES, *files}
    missing = sorted(name for name in needed if not (folder / name).is_file())
    if missing:
        raise _half_there(folder, missing[0], "is missing")
    return files


def _write_json(path: Path, values: dict) -> None:
    path.write_text(json.dumps(values, indent=1, allow_nan=False) + "\n", encoding="utf-8", newline="\n")


def _read_json(path: Path) -> dict:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _half_there(path.parent, path.name, "is missing") from None
    except (OSError, ValueError) as error:
        raise _half_there(path.parent, path.name, f"cannot be read ({error})") from error
    if not isinstance(values, dict):
        raise _half_there(path.parent, path.name, "is no table")
    return values


def truth_points(motion: Motion, skeleton: Skeleton) -> MarkerTable:
    """Joint centres, mass centres ("<body>_com") and markers of a motion, OpenSim's ground, m."""
    fk = ForwardKinematics(skeleton, dtype=torch.float64)
    scales = torch.as_tensor(motion.scales, dtype=torch.float64)
    with torch.no_grad():
        frames = fk(torch.as_tensor(motion.coordinates, dtype=torch.float64), scales)
        parts = (
            fk.joint_centers(frames, scales),
            fk.mass_centers(frames, scales),
            fk.markers(frames, scales),
        )
    masses = [f"{name}_com" for name in skeleton.body_names]
    names = (*skeleton.joints.names, *masses, *skeleton.marker_names)
    return MarkerTable(np.arange(len(motion.time)), motion.time, names, torch.cat(parts, 1).numpy())


def sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_videos(
    folder: Path, camera: Camera, stream: Iterable[View], fps: int, crf: int, count: int
) -> None:
    # One thread: the bytes do not depend on the machine's number of cores.
    written = 0
    with (
        VideoWriter(_video(folder, "videos", camera), fps, camera.size, crf, threads=1) as video,
        VideoWriter(_video(folder, "masks", camera), fps, camera.size, 0, threads=1) as mask,
    ):
        if video.codec != "H.264":
            raise BiokinError(f"{folder}: no H.264 encoder for the videos. pip install av")
        for view in stream:
            video.write(view.image)
            mask.write(np.repeat(view.mask[..., None].astype(np.uint8) * np.uint8(255), 3, axis=2))
            written += 1
    if written != count:
        raise ValueError(f"camera {camera.name}: {written} frames were rendered, the motion has {count}")


def _video(folder: Path, kind: str, camera: Camera) -> Path:
    return folder / kind / f"{camera.name}.mp4"


def _half_there(folder: Path, name: str, what: str) -> BiokinError:
    return BiokinError(
        f"{folder}: not a whole clip: {name} {what}. Delete the folder and run `odah generate` again with "
        "the data set's settings; it makes what is missing."
    )
