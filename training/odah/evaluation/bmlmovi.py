"""BMLmovi (MoVi), as it is published, as cases: films of the F round, calibration, truth by AMASS's fits.

Ghorbani et al. 2021 (PLOS ONE 16:e0253157), https://www.biomotionlab.ca/movi/: 90 actors, 20 actions and one
of their own choice each. Wherever in the folder they are unpacked:

    F_PG1_Subject_1_L.avi, F_PG2_Subject_1_L.avi   films of a whole round, 800 x 600, 30 Hz
    cameraParams_PG1.npz or .pkl                   IntrinsicMatrix (3, 3), RadialDistortion (2)
    Extrinsics_PG1.npz or .pkl                     rotationMatrix (3, 3), translationVector (3), mm
    F_v3d_Subject_1.mat                            which frames of the round are which motion
    Subject_1_F_1_stageii.npz or ..._poses.npz     fit of the first motion, from https://amass.is.tue.mpg.de
    F_amass_Subject_1.mat                          the same in MoVi's own form, where there is no .npz

Confirmed by MoVi's article (table 3), its toolbox, its files, or others that read them: these names;
matrices are MATLAB's, for rows, ``x = (X R + t) K``, so that OpenCV's are their transposes, and MATLAB's
first pixel is 1; flags30 and flags120 in Subject_1_F.move are first and last frames of each motion of
motions_list, from 1, at 30 and 120 Hz, every fourth frame of the latter being one of the film; the fit of
motion i has the number i; MoVi's axes are AMASS's turned by 90 degrees about the vertical: (x, y, z) of AMASS
is (-y, x, z) of MoVi, which is in mm.

Our reading: a fit begins with its motion's first flag; RootTranslation_amass and jointsExpMaps_amass of the
.mat files are in AMASS's own axes and m (the toolbox turns jointsLocation only).

The truth is not published as joint angles of an OpenSim model: markers on the fitted mesh go through
OpenSim's scaling and inverse kinematics (`odah.motions.amass`), with the user's own SMPL-X models. That takes
longer than the motion lasts, and is kept.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from odah.evaluation.cases import Case
from odah.evaluation.pickles import read_pickle
from odah.motions.amass import BODY_JOINTS, AmassMotion, read_amass_file, solve_motion
from pose2sim_biokin.config import BiokinConfig
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.atomic import atomic_path
from pose2sim_biokin.io.calibration import match_video_size
from pose2sim_biokin.io.project import Trial, View
from pose2sim_biokin.io.video import VideoReader
from pose2sim_biokin.motion import Motion
from pose2sim_biokin.skeleton.model import load_skeleton
from pose2sim_biokin.vision.camera import Camera

CAMERAS = ("PG1", "PG2")
FILM_HZ, MOCAP_HZ = 30.0, 120.0
_FILM = re.compile(r"F_PG1_Subject_(\d+)(_L)?\.(avi|mp4)")
_MOVI_FROM_AMASS = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
_SIZE = (800, 600)


def read_bmlmovi(folder: str | Path, model_folder: Path | None, cache: Path, **biokin) -> list[Case]:
    """The motions of all actors whose films are there.

    Args:
        folder: with the unpacked archives, at any depth.
        model_folder: the user's SMPL-X models. cache: folder where the truth is kept.
        biokin: keys of [biokin].

    Raises:
        BiokinError: no films, or no calibration.
    """
    folder = Path(folder)
    files = {path.name: path for path in folder.rglob("*") if path.is_file()}
    subjects = sorted(int(m[1]) for name in files if (m := _FILM.fullmatch(name)))
    if not subjects:
        raise BiokinError(
            f"{folder}: no films of MoVi's F round; expected F_PG1_Subject_1_L.avi, and so on, at any depth."
        )
    cameras = [_camera(files, folder, name) for name in CAMERAS]
    cases = []
    for subject in subjects:
        flags, motions = read_motions(_needed(files, folder, f"F_v3d_Subject_{subject}.mat"))
        for number, ((first, last), motion) in enumerate(zip(flags, motions, strict=True), 1):
            frames = (int(first) - 1, int(last))
            cases.append(
                Case(
                    "BMLmovi",
                    f"Subject_{subject}/{number:02d}_{motion}",
                    truth=partial(_truth, files, folder, subject, number, frames, model_folder, cache),
                    trial=partial(_trial, files, folder, subject, frames, cameras, biokin),
                    about={"motion": motion, "subject": f"Subject_{subject}", "renderer": "real"},
                )
            )
    return cases


def read_motions(path: Path) -> tuple[np.ndarray, list[str]]:
    """First and last film frame (n, 2), from 1, and names of a round's motions.

    Raises:
        BiokinError: the file is not one of MoVi's.
    """
    content = _mat(path)
    try:
        move = _move(content)[0]
        flags = np.asarray(move["flags30"], dtype=int).reshape(-1, 2)
        names = [str(name).strip().replace("/", "_") for name in np.ravel(move["motions_list"])]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise BiokinError(
            f"{path}: expected Subject_N_F.move with flags30 and motions_list ({error!r})."
        ) from error
    if len(flags) != len(names) or (flags[:, 0] < 1).any() or (flags[:, 1] <= flags[:, 0]).any():
        raise BiokinError(f"{path}: {len(flags)} rows of flags30 (first, last) for {len(names)} motions.")
    return flags, names


def read_camera(intrinsics: Path, extrinsics: Path, name: str) -> Camera:
    """A camera in AMASS's axes (Z up), metres.

    Raises:
        BiokinError: a file cannot be read, or lacks something.
    """
    inner, outer = _arrays(intrinsics), _arrays(extrinsics)
    try:
        K = np.asarray(inner["IntrinsicMatrix"], dtype=np.float64).reshape(3, 3).T
        radial = np.asarray(inner["RadialDistortion"], dtype=np.float64).ravel()
        R = np.asarray(outer["rotationMatrix"], dtype=np.float64).reshape(3, 3).T
        t = np.asarray(outer["translationVector"], dtype=np.float64).reshape(3)
    except (KeyError, TypeError, ValueError) as error:
        raise BiokinError(
            f"{intrinsics}, {extrinsics}: expected IntrinsicMatrix, RadialDistortion, rotationMatrix and "
            f"translationVector ({error!r})."
        ) from error
    K = K - np.array([[0, 0, 1.0], [0, 0, 1.0], [0, 0, 0]])  # MATLAB's first pixel is 1
    distortion = np.array([*radial[:2], 0.0, 0.0, *radial[2:3]])
    return Camera(name, *_SIZE, K, distortion, R @ _MOVI_FROM_AMASS, t / 1000)


def read_movi_amass(path: Path, number: int) -> AmassMotion:
    """AMASS's fit of a motion, counted from 1, out of F_amass_Subject_N.mat.

    Raises:
        BiokinError: the file is not one of MoVi's, or has no such motion.
    """
    content = _mat(path)
    try:
        move = _move(content)[number - 1]
        poses = np.asarray(move["jointsExpMaps_amass"], dtype=np.float64)
        poses = poses.reshape(len(poses), -1, 3)[:, :BODY_JOINTS]
        betas = np.ravel(np.asarray(move["jointsBetas_amass"], dtype=np.float64))[:16]
        trans = np.asarray(move["RootTranslation_amass"], dtype=np.float64).reshape(-1, 3)
        gender = str(content["subject"]["sex"]).strip().lower()
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise BiokinError(
            f"{path}: no fit of motion {number} in Subject_N_F_amass.move ({error!r})."
        ) from error
    gender = {"f": "female", "m": "male"}.get(gender[:1], "neutral")
    if poses.shape[1:] != (BODY_JOINTS, 3) or len(poses) != len(trans):
        raise BiokinError(f"{path}: motion {number}: {poses.shape} rotations and {trans.shape} translations.")
    return AmassMotion("smplh", gender, MOCAP_HZ, betas, poses, trans)


def _truth(
    files: Mapping[str, Path],
    folder: Path,
    subject: int,
    number: int,
    frames: tuple[int, int],
    model_folder: Path | None,
    cache: Path,
) -> Motion:
    """Solved once, then read: the name of what is kept has the hash of what it was solved from."""
    name = f"Subject_{subject}_F_{number}"
    source = next(
        (files[f"{name}_{s}.npz"] for s in ("stageii", "poses") if f"{name}_{s}.npz" in files), None
    )
    if source is None:
        source = _needed(files, folder, f"F_amass_Subject_{subject}.mat")
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    skeleton = load_skeleton()
    kept = cache / f"{name}_{digest}.npz"
    if not kept.is_file():
        mat = source.suffix == ".mat"
        motion = read_movi_amass(source, number) if mat else read_amass_file(source)
        fit = solve_motion(motion, skeleton, model_folder, f"{source}, motion {number}")
        with atomic_path(kept) as staged:
            np.savez(staged, time=fit.time, coordinates=fit.coordinates, scales=fit.scales)
    with np.load(kept, allow_pickle=False) as solved:
        time = solved["time"] - solved["time"][0] + frames[0] / FILM_HZ
        return Motion(time, solved["coordinates"], solved["scales"], skeleton.name)


def _trial(
    files: Mapping[str, Path],
    folder: Path,
    subject: int,
    frames: tuple[int, int],
    cameras: list[Camera],
    biokin: dict,
) -> Trial:
    views = []
    for camera in cameras:
        stem = f"F_{camera.name}_Subject_{subject}"
        video = next(
            (files[n] for e in ("avi", "mp4") for n in (f"{stem}_L.{e}", f"{stem}.{e}") if n in files), None
        )
        if video is None:
            raise BiokinError(f"{folder}: no film {stem}_L.avi.")
        info = VideoReader(video).info
        views.append(View(match_video_size(camera, info.width, info.height, video), video, info))
    project = {"frame_range": list(frames), "frame_rate": FILM_HZ}
    config = BiokinConfig.from_config_dict({"project": project, "biokin": biokin})
    return Trial(f"Subject_{subject}", folder, folder, tuple(views), FILM_HZ, config)


def _camera(files: Mapping[str, Path], folder: Path, name: str) -> Camera:
    paths = [
        files.get(f"{kind}_{name}.npz") or _needed(files, folder, f"{kind}_{name}.pkl")
        for kind in ("cameraParams", "Extrinsics")
    ]
    return read_camera(*paths, name)


def _arrays(path: Path) -> Mapping:
    if path.suffix == ".pkl":
        content = read_pickle(path)
        if not isinstance(content, dict):
            raise BiokinError(f"{path}: expected a dict, found {type(content).__name__}.")
        return content
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (OSError, ValueError, EOFError) as error:
        raise BiokinError(f"{path}: cannot be read as an .npz file ({error}).") from error


def _mat(path: Path) -> dict:
    """The one variable of a MATLAB file, as plain dicts, lists and arrays."""
    from scipy.io import loadmat

    try:
        content = loadmat(path, simplify_cells=True)
    except Exception as error:  # a damaged file can raise anything
        raise BiokinError(f"{path}: cannot be read as a MATLAB file ({error}).") from error
    found = [value for key, value in content.items() if not key.startswith("__")]
    if len(found) != 1 or not isinstance(found[0], dict):
        raise BiokinError(f"{path}: expected one struct, found {len(found)} variables.")
    return found[0]


def _move(content: dict) -> list[dict]:
    """The cells of `move`: one of v3d files, one a motion of AMASS's."""
    move = content["move"]
    return [move] if isinstance(move, dict) else list(np.ravel(np.asarray(move, dtype=object)))


def _needed(files: Mapping[str, Path], folder: Path, name: str) -> Path:
    if name not in files:
        raise BiokinError(f"{folder}: {name} is missing; expected it at any depth, as MoVi publishes it.")
    return files[name]
