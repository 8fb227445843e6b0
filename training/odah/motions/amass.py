"""AMASS-format motion capture (.npz): mesh, virtual markers, OpenSim's scaling and inverse kinematics.

Poses of SMPL-X (165 numbers a frame, or root_orient and pose_body) and of SMPL-H (156) drive the user's
SMPL-X model of the same gender; both have the same first 22 joints. The shape coefficients of an SMPL-H file
belong to another shape space, so its motion is performed by the average shape. Hands and face stay at rest:
the skeleton has no joints for them. AMASS is Z up, metres; https://amass.is.tue.mpg.de (licensed, never
bundled).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from odah.motions.clips import Recording
from odah.motions.marker_trials import fit_recordings
from odah.motions.mot_folder import Rejection
from odah.motions.opensim_tools import MARKER_LIMIT_M, MarkerFit, scale_and_solve
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.trc import MarkerTable
from pose2sim_biokin.skeleton.model import Skeleton
from pose2sim_biokin.skeleton.rotations import axis_angle_to_matrix

BODY_JOINTS = 22
_KINDS = {165: "smplx", 156: "smplh"}
_RATES = ("mocap_framerate", "mocap_frame_rate")
GENDERS = ("neutral", "male", "female")
# Frames are thinned to at least this rate before inverse kinematics, Hz.
_SLOWEST_HZ = 50.0
_CHUNK = 64  # frames meshed at a time


@dataclass(frozen=True)
class AmassMotion:
    """T frames.

    Attributes:
        kind: "smplx" or "smplh".
        gender: one of GENDERS.
        fps: Hz.
        betas: (n,) at most 16 shape coefficients.
        rotations: (T, 22, 3) rotation vectors of the body's joints relative to their parents, rad.
        translation: (T, 3) m, Z up.
    """

    kind: str
    gender: str
    fps: float
    betas: np.ndarray
    rotations: np.ndarray
    translation: np.ndarray


def read_amass_file(path: Path) -> AmassMotion:
    """Read and check an AMASS file.

    Raises:
        BiokinError: it cannot be read, keys are missing, shapes do not fit, or numbers are not finite.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            data = {key: archive[key] for key in archive.files}
    except (OSError, ValueError, EOFError) as error:
        raise BiokinError(f"{path}: cannot be read as an AMASS .npz file ({error}).") from error
    rate = next((key for key in _RATES if key in data), None)
    missing = [key for key in ("trans", "betas", "gender") if key not in data]
    missing += [] if rate else [" or ".join(_RATES)]
    if "poses" not in data and not {"root_orient", "pose_body"} <= data.keys():
        missing.append("poses (or root_orient and pose_body)")
    if missing:
        raise BiokinError(
            f"{path}: no AMASS motion: it lacks {', '.join(missing)} and holds "
            f"{', '.join(sorted(data)[:10]) or 'nothing'}."
        )
    if "poses" in data:
        poses = np.atleast_2d(data["poses"])
        kind = _KINDS.get(poses.shape[-1])
        if kind is None:
            raise BiokinError(
                f"{path}: poses is {poses.shape}; expected (frames, 156) of SMPL-H or "
                "(frames, 165) of SMPL-X."
            )
        poses = poses[:, : 3 * BODY_JOINTS]
    else:
        kind = "smplx"
        poses = np.concatenate([np.atleast_2d(data["root_orient"]), np.atleast_2d(data["pose_body"])], axis=1)
    kind = str(data.get("surface_model_type", kind)).strip().lower() or kind
    count, trans = len(poses), np.atleast_2d(data["trans"])
    betas, fps = np.ravel(data["betas"])[:16].astype(np.float64), float(data[rate])
    gender = _text(data["gender"])
    if kind not in _KINDS.values():
        raise BiokinError(f"{path}: surface_model_type is {kind!r}; expected smplx or smplh.")
    if poses.shape != (count, 3 * BODY_JOINTS) or trans.shape != (count, 3) or count < 2 or not len(betas):
        raise BiokinError(
            f"{path}: {count} frames of poses ({poses.shape[-1]} numbers of the body), trans {trans.shape}, "
            f"betas {betas.shape}; expected at least 2 frames, {3 * BODY_JOINTS} numbers, trans (frames, 3)."
        )
    for name, values in (("poses", poses), ("trans", trans), ("betas", betas)):
        bad = ~np.isfinite(values)
        if bad.any():
            where = f", first in frame {int(np.argwhere(bad)[0][0])}" if values.ndim > 1 else ""
            raise BiokinError(f"{path}: {name} has {int(bad.sum())} numbers that are not finite{where}.")
    if not (np.isfinite(fps) and fps > 0):
        raise BiokinError(f"{path}: {rate} is {fps}; expected a rate in Hz.")
    if gender not in GENDERS:
        raise BiokinError(f"{path}: gender is {gender!r}; expected one of {', '.join(GENDERS)}.")
    rotations = poses.reshape(count, BODY_JOINTS, 3).astype(np.float64)
    return AmassMotion(kind, gender, fps, betas, rotations, trans.astype(np.float64))


def amass_markers(motion: AmassMotion, body) -> tuple[MarkerTable, MarkerTable]:
    """Virtual markers of the motion, and of the same person standing at rest; ground axes, m.

    Args:
        body: `SmplxBody` of the motion's gender.
    """
    from odah.bodies.registration import load_registration

    registration = load_registration(body)
    betas = torch.zeros(body.model.shape_count)
    if motion.kind == "smplx":
        given = torch.as_tensor(motion.betas[: len(betas)]).float()
        betas[: len(given)] = given
    vertex_count = len(body.rest_mean)
    step = max(1, int(motion.fps // _SLOWEST_HZ))
    rotations = axis_angle_to_matrix(torch.as_tensor(motion.rotations[::step]).float())
    translation = torch.as_tensor(motion.translation[::step]).float()
    parts = []
    with torch.no_grad():
        for start in range(0, len(rotations), _CHUNK):
            part = slice(start, start + _CHUNK)
            vertices, _ = body.model.mesh(betas, rotations[part], translation[part])
            # Z up to ground: (X, Y, Z) of ground is (Y, Z, X) of the world
            names, points = registration.virtual_markers(vertices[..., [1, 2, 0]])
            parts.append(points.double().numpy())
        rest, _ = body.rest_points(betas[None])
        _, standing = registration.virtual_markers(rest[:, :vertex_count])
    tables = []
    for points, fps in ((np.concatenate(parts), motion.fps / step), (standing.double().numpy(), 60.0)):
        count = np.arange(len(points))
        tables.append(MarkerTable(count + 1, count / fps, names, points))
    return tables[0], tables[1]


def solve_amass(path: Path, skeleton: Skeleton, model_folder: Path | None) -> MarkerFit:
    """Joint angles of an AMASS file; see `solve_motion`.

    Raises:
        BiokinError: the file or the model cannot be used, or OpenSim's tools fail.
    """
    return solve_motion(read_amass_file(path), skeleton, model_folder, str(path))


def solve_motion(
    motion: AmassMotion, skeleton: Skeleton, model_folder: Path | None, source: str
) -> MarkerFit:
    """Joint angles of a motion.

    Args:
        model_folder: the user's SMPL-X models, see `odah.bodies.smplx_model.find_smplx`.
        source: what the motion is called in messages.

    Raises:
        BiokinError: the model cannot be used, or OpenSim's tools fail.
    """
    from odah.bodies.registration import load_registration

    if model_folder is None:
        raise BiokinError(
            f"{source}: an AMASS file needs SMPL-X models to become a mesh; give the folder with "
            f"SMPLX_{motion.gender.upper()}.npz as model folder."
        )
    body = _body(Path(model_folder), motion.gender)
    trial, standing = amass_markers(motion, body)
    placed = load_registration(body).marker_skeleton(skeleton)
    return scale_and_solve(trial, placed, standing, place_markers=False, source=source)


def read_amass(
    path: Path,
    skeleton: Skeleton,
    model_folder: Path | None,
    *,
    report: list[Rejection] | None = None,
    group: str | None = None,
    limit_m: float = MARKER_LIMIT_M,
    shortest: int = 32,
) -> list[Recording]:
    """Recordings of an AMASS file; none, and a line in the report, when its markers do not fit the model.

    Arguments as for `solve_amass` and `marker_trials.read_marker_trial`.
    """
    report = [] if report is None else report
    fit = solve_amass(path, skeleton, model_folder)
    group = path.parent.as_posix() if group is None else group
    return fit_recordings(fit, path.stem, group, skeleton, report, limit_m, shortest)


@lru_cache(maxsize=3)
def _body(model_folder: Path, gender: str):
    """The model is read, and registered, once a process."""
    from odah.bodies.body import load_body

    return load_body("smplx", model_folder=model_folder, gender=gender)


def _text(value: np.ndarray) -> str:
    """A string stored as text or as bytes."""
    item = np.asarray(value).item() if np.asarray(value).size == 1 else str(value)
    return (item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)).strip().lower()
