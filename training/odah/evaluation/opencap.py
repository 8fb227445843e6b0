"""OpenCap's laboratory validation, as it is published, as cases: films, calibration and marker-based truth.

Uhlrich et al. 2023 (PLOS Computational Biology 19:e1011462), https://simtk.org/projects/opencap, archive
LabValidation_withVideos: subject2 ... subject11, five telephones each.

    subject2/sessionMetadata.yaml                                       mass_kg, height_m
    subject2/VideoData/Session0/Cam1/cameraIntrinsicsExtrinsics.pickle  of that camera
    subject2/VideoData/Session0/Cam1/DJ1/DJ1_syncdWithMocap.avi         cut to the marker recording
    subject2/OpenSimData/Mocap/Model/..._scaled.osim                    scaled to the subject's markers
    subject2/OpenSimData/Mocap/IK/DJ1.mot                               their inverse kinematics: the truth
    subject2/OpenSimData/Video/HRNet/2-cameras/IK/DJ1.mot               OpenCap's own result

Confirmed by OpenCap's programs (opencap-core, ReproducePaperResults) or by others that read the archive:
these paths but that of the model of OpenCap's own results; Session1 has the walking trials, Session0 the
others; cameras 0 to 4 stand at -70, -45, 0, 45 and 70 degrees; a pickle holds intrinsicMat (3, 3), distortion
(5), rotation (3, 3) and translation (3), mm, from the checkerboard's axes to the camera's (OpenCV), and
imageSize, in the sensor's order also for films in portrait; the checkerboard lies or hangs, and so which of
its axes is upright differs.

Our reading: the upright axis is the one of the board's that is nearest to the pictures' own; the first frame
of a film that is cut to the marker recording belongs to the first row of its .mot (lags that are left are
found by cross-correlation); OpenCap's own results have their model in Model beside IK. How the laboratory's
axes lie in the cameras' is published for some sessions only (mocapToVideoTransform.yaml), and is not used:
see `Case.same_world`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from odah.evaluation.cases import Case, Result
from odah.evaluation.pickles import read_pickle
from pose2sim_biokin.config import BiokinConfig
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.calibration import match_video_size
from pose2sim_biokin.io.project import Trial, View
from pose2sim_biokin.io.video import VideoReader
from pose2sim_biokin.vision.camera import Camera

VIEWS = ("Cam1", "Cam3")  # 90 degrees apart: OpenCap's own choice of two
_CALIBRATION = "cameraIntrinsicsExtrinsics.pickle"


def read_opencap(folder: str | Path, views: Sequence[str] = VIEWS, **biokin) -> list[Case]:
    """The trials of all subjects that have a marker-based motion.

    Args:
        folder: with subject2, subject3, ....
        views: the two cameras. biokin: keys of [biokin].

    Raises:
        BiokinError: the folder holds no such subjects or trials.
    """
    folder = Path(folder)
    subjects = sorted(folder.glob("subject*"), key=lambda p: (len(p.name), p.name))
    cases = [case for subject in subjects for case in _subject_cases(subject, tuple(views), biokin)]
    if not cases:
        raise BiokinError(
            f"{folder}: no trials of OpenCap's laboratory validation; expected "
            "subject2/OpenSimData/Mocap/IK/*.mot, and so on, as in the archive LabValidation_withVideos."
        )
    return cases


def read_camera(path: Path, name: str) -> tuple[Camera, np.ndarray]:
    """A camera in the checkerboard's axes, in metres; its picture's upward direction (3,) in these axes.

    Raises:
        BiokinError: the file cannot be read, or lacks something.
    """
    content = read_pickle(path)
    keys = {
        "intrinsicMat": (3, 3),
        "distortion": None,
        "rotation": (3, 3),
        "translation": (3,),
        "imageSize": (2,),
    }
    if not isinstance(content, dict) or not keys.keys() <= content.keys():
        found = sorted(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise BiokinError(f"{path}: expected a dict with {', '.join(keys)}, found {found}.")
    try:
        K, distortion, R, t, size = (
            np.asarray(content[key], dtype=np.float64).reshape(shape or -1) for key, shape in keys.items()
        )
    except (TypeError, ValueError) as error:
        raise BiokinError(f"{path}: numbers of other shapes than expected ({error}).") from error
    if np.abs(R @ R.T - np.eye(3)).max() > 1e-3 or np.linalg.det(R) < 0:
        raise BiokinError(f"{path}: rotation is not a rotation matrix.")
    # stored the way of the sensor, not of the film: the principal point is near the middle of either
    if (size[0] > size[1]) != (K[0, 2] > K[1, 2]):
        size = size[::-1]
    return Camera(name, round(size[0]), round(size[1]), K, distortion, R, t / 1000), -R[1]


def upright(cameras: Sequence[Camera], up: np.ndarray) -> list[Camera]:
    """Cameras in a world of the same place whose Z axis is that of their axes, or its opposite, which is
    nearest to `up` (3,).
    """
    k = int(np.abs(up).argmax())
    z = np.sign(up[k]) * np.eye(3)[k]
    x = np.eye(3)[(k + 1) % 3]
    turn = np.stack([x, np.cross(z, x), z])  # world = turn @ board
    return [
        Camera(c.name, c.width, c.height, c.K, c.distortion, c.R @ turn.T, c.t, c.fisheye) for c in cameras
    ]


def _subject_cases(subject: Path, views: tuple[str, ...], biokin: dict) -> list[Case]:
    data = subject / "OpenSimData"
    cases = []
    for mot in sorted((data / "Mocap" / "IK").glob("*.mot")):
        trial = mot.stem
        if trial.lower().startswith(("static", "extrinsics")):
            continue
        results = [
            Result(f"OpenCap {ik.parent.parent.parent.name} {ik.parent.parent.name}", model, ik)
            for ik in sorted((data / "Video").glob(f"*/*/IK/{trial}.mot"))
            if (model := _model(ik.parent.parent / "Model")) is not None
        ]
        model = _model(data / "Mocap" / "Model")
        if model is None:
            raise BiokinError(
                f"{data / 'Mocap' / 'Model'}: no *_scaled.osim, the model of the subject's markers."
            )
        sessions = sorted((subject / "VideoData").glob(f"Session*/*/{trial}"))
        film = partial(_trial, subject, sessions[0].parents[1], trial, views, biokin) if sessions else None
        about = {"motion": re.sub(r"\d+$", "", trial), "subject": subject.name, "renderer": "real"}
        cases.append(
            Case(
                "OpenCap",
                f"{subject.name}/{trial}",
                Result("truth", model, mot),
                trial=film,
                results=tuple(results),
                about=about,
                same_world=False,
                same_clock=False,
            )
        )
    return cases


def _model(folder: Path) -> Path | None:
    return next(iter(sorted(folder.glob("*_scaled.osim"))), None)


def _trial(subject: Path, session: Path, trial: str, names: tuple[str, ...], biokin: dict) -> Trial:
    cameras, ups, videos = [], [], []
    for name in names:
        camera, up = read_camera(session / name / _CALIBRATION, name)
        video = session / name / trial / f"{trial}_syncdWithMocap.avi"
        if not video.is_file():
            raise BiokinError(f"{video}: missing; expected the film that is cut to the marker recording.")
        cameras.append(camera)
        ups.append(up)
        videos.append(video)
    views = []
    for camera, video in zip(upright(cameras, np.mean(ups, axis=0)), videos, strict=True):
        info = VideoReader(video).info
        views.append(View(match_video_size(camera, info.width, info.height, video), video, info))
    fps = float(round(views[0].info.fps) or views[0].info.fps)
    config = BiokinConfig.from_config_dict(
        {"project": {"participant_mass": _mass(subject), "frame_rate": fps}, "biokin": biokin}
    )
    return Trial(trial, subject, session, tuple(views), fps, config)


def _mass(subject: Path) -> float:
    import yaml

    path = subject / "sessionMetadata.yaml"
    try:
        return float(yaml.safe_load(path.read_text(encoding="utf-8"))["mass_kg"])
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise BiokinError(f"{path}: no mass_kg to be read ({error!r}).") from error
