"""One clip from nothing: a subject, a motion, a scene, two films of it, and the truth.

`make_clip` is a function of the settings and the clip's number alone: whichever process runs it, whenever,
the truth has the same bytes.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d, minimum_filter1d

import pose2sim_biokin
from odah.bodies.body import JOINT_LIMIT_M, MARKER_LIMIT_M, Animation, Body, Subject, load_body
from odah.clips import write_clip
from odah.datasets import write_rejected
from odah.generation_config import ClipPlan, Config
from odah.motions.clips import Recording, split_by_group
from odah.motions.floor import stand_on_floor
from odah.motions.sampler import SHARES
from odah.motions.sequence import Sequence, sample_sequence
from odah.render.renderers import Renderer, get_renderer
from odah.scenes.sampler import build_scene
from odah.scenes.scene import SUBJECT, Scene
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.motion import Motion

DENSITY = 1010.0  # kg/m3 of a living body: soft tissue and bone 1050, with some 2.4 l of air in the lungs
_STAND_IN = 10_000_000  # between the seeds of a subject and of the stand-in; more than all splits' seeds
_CAST_SHARE = 0.95  # of the limit, at rest: motion adds a little
_SETTLE_S = 0.03  # the height of the lowest point is smoothed over this time (standard deviation)


@dataclass(frozen=True)
class Made:
    """What became of a clip.

    Attributes:
        name: of the clip.
        reasons: why motions were rejected before one was accepted, or all of them.
        done: it is on disk; else it was given up.
        seconds: wall time.
    """

    name: str
    reasons: tuple[str, ...]
    done: bool
    seconds: float


@dataclass(frozen=True)
class Take:
    """A subject in motion, before there is a scene.

    Attributes:
        coordinates: (T, nc) rad and m, on the floor.
        sequence: where they come from.
        animation: of the undressed body, at these coordinates.
    """

    coordinates: np.ndarray
    sequence: Sequence
    animation: Animation


@lru_cache(maxsize=4)
def _body(kind: str, model_folder: Path | None, gender: str, mesh: str) -> Body:
    return load_body(kind, model_folder=model_folder, gender=gender, mesh=mesh)


def body_of(config: Config, subject: int) -> Body:
    """The body that a subject's seed leads to."""
    gender = config.body.gender
    if gender == "any":
        gender = str(np.random.default_rng([subject, 0x9E]).choice(["female", "male"]))
    gender = "neutral" if config.body.kind == "open" else gender  # the open body mixes both itself
    return _body(config.body.kind, _models(config), gender, config.body.mesh)


def _models(config: Config) -> Path | None:
    """The folder of the SMPL-X models, if there is one."""
    return config.path(config.body.model_folder) if config.body.model_folder else None


@lru_cache(maxsize=2)
def _recordings(sources: tuple[Path, ...], skeleton, models: Path | None) -> dict[str, list[Recording]]:
    from odah.motions.sources import read_motion_source

    read = (read_motion_source(source, skeleton, model_folder=models) for source in sources)
    return split_by_group([recording for recordings in read for recording in recordings])


def recordings_of(config: Config, skeleton) -> dict[str, list[Recording]]:
    """The recordings of the config's sources by split; read once a process.

    Raises:
        BiokinError: a source cannot be used, or a split has nothing to draw motions from.
    """
    sources = tuple(config.path(source) for source in config.motion.sources)
    recordings = _recordings(sources, skeleton, _models(config))
    shares = SHARES | config.motion.shares
    for split, people in config.dataset.subjects.items():
        kinds = [kind for kind in shares if shares[kind] > 0 and (recordings[split] or kind != "recorded")]
        if people and not kinds:
            raise BiokinError(
                f"[motion] shares is {config.motion.shares!r}, but there are no recordings for the {split} "
                "split in [motion] sources. Add sources, or give other kinds of motion a share."
            )
    return recordings


def make_clip(config: Config, plan: ClipPlan, output: Path) -> Made:
    """Make one clip of a data set, or note why it cannot be made.

    Raises:
        BiokinError: the settings cannot be used, or the disk is full.
    """
    started = time.monotonic()
    output = Path(output)
    with _one_thread(), torch.no_grad():
        body = body_of(config, plan.subject)
        recordings = recordings_of(config, body.skeleton)[plan.split]
        subject = cast_subject(body, plan.subject, config.dataset.attempts)
        reasons: list[str] = []
        for attempt in range(config.dataset.attempts):
            rng = np.random.default_rng([config.dataset.seed, plan.index, attempt, 0xC11F])
            take = draw_take(rng, config, plan.split, body, subject, recordings)
            reason = rejection(take)
            if reason is None:
                break
            reasons.append(reason)
        else:
            write_rejected(output, plan.name, reasons)
            return Made(plan.name, tuple(reasons), False, time.monotonic() - started)
        scene, coordinates = film_set(rng, config, body, subject, take)
        about = _about(config, plan, attempt, body, subject, take, scene, reasons)
        render = renderer_of(config)
        motion = Motion(
            np.arange(config.frames) / config.dataset.fps,
            coordinates.astype(np.float64),
            subject.scales.double().numpy(),
            body.skeleton.name,
        )
        write_clip(
            output / plan.name,
            scene.cameras,
            [render(scene, k, range(config.frames)) for k in range(len(scene.cameras))],
            motion,
            body.skeleton,
            about,
            fps=config.dataset.fps,
            mass_kg=DENSITY * mesh_volume(subject.vertices.numpy(), body.faces.numpy()),
            height_m=subject.stature,
            crf=config.render.crf,
        )
    return Made(plan.name, tuple(reasons), True, time.monotonic() - started)


def cast_subject(body: Body, seed: int, attempts: int) -> Subject:
    """The subject of a seed, or a stand-in where the skeleton does not fit that build even at rest.

    Such a person would have every clip rejected. Stand-ins have seeds of their own: they depend on the first
    seed alone, and never meet another subject. If nobody fits, the first one.
    """
    first = None
    for attempt in range(attempts):
        subject = body.sample_subject(seed + _STAND_IN * attempt)
        first = first or subject
        rest = body.animate(subject, subject.rest_coordinates.float()[None])
        if rest.joint_rms_m <= JOINT_LIMIT_M and rest.marker_rms_m <= _CAST_SHARE * MARKER_LIMIT_M:
            return subject
    return first


def draw_take(
    rng: np.random.Generator,
    config: Config,
    split: str,
    body: Body,
    subject: Subject,
    recordings: list[Recording],
) -> Take:
    """Draw a motion and let the undressed subject perform it on the floor."""
    fps, fk = config.dataset.fps, body.kinematics
    sequence = sample_sequence(
        rng, split, recordings, config.frames, fk, fps, config.motion.piece_s, config.motion.shares
    )
    coordinates = stand_on_floor(sequence.coordinates, sequence.lift, fk, subject.scales.numpy())
    animation = body.animate(subject, torch.as_tensor(coordinates, dtype=torch.float32))
    rise = settle(animation.vertices[..., 1].amin(1).numpy() - sequence.lift, fps)
    height = body.skeleton.coordinate_index("pelvis_ty")
    coordinates[:, height] += rise
    vertices = animation.vertices.clone()
    vertices[..., 1] += torch.as_tensor(rise, dtype=torch.float32)[:, None]
    return Take(coordinates.astype(np.float32), sequence, replace(animation, vertices=vertices))


def settle(gap: np.ndarray, fps: float) -> np.ndarray:
    """(T,) m to raise a person by, whose lowest point is `gap` (T,) above where it should be.

    Smooth, and never too little: the lowest gap within a window is smoothed over the same window, so nothing
    stays below the floor.
    """
    radius = max(1, round(3 * _SETTLE_S * fps))
    lowest = minimum_filter1d(gap, 2 * radius + 1, mode="nearest")
    return -gaussian_filter1d(lowest, max(_SETTLE_S * fps, 0.3), mode="nearest", radius=radius)


def rejection(take: Take) -> str | None:
    """Why a take is not used; None if the mesh follows the skeleton closely enough."""
    animation, pieces = take.animation, ", ".join(name for _, _, name in take.sequence.pieces)
    for what, found, limit in (
        ("joint", animation.joint_rms_m, JOINT_LIMIT_M),
        ("marker", animation.marker_rms_m, MARKER_LIMIT_M),
    ):
        if not found <= limit:
            return f"{what} residual {1000 * found:.1f} mm RMS, over {1000 * limit:.0f} mm ({pieces})"
    return None


def film_set(
    rng: np.random.Generator, config: Config, body: Body, subject: Subject, take: Take
) -> tuple[Scene, np.ndarray]:
    """A scene around a take, the dressed feet on its floor; and the coordinates (T, nc) that hold in it."""
    q = torch.as_tensor(take.coordinates)

    def animate(rest: torch.Tensor | None = None) -> Animation:
        return take.animation if rest is None else body.animate(subject, q, rest)

    fps = config.dataset.fps
    scene = build_scene(rng, config.scene, body, subject, animate, config.frames, fps)
    worn = [mesh for mesh in scene.meshes if mesh.person == SUBJECT]
    lowest = np.min([mesh.vertices[..., 2].min(1) * np.ones(config.frames) for mesh in worn], axis=0)
    rise = settle(lowest - take.sequence.lift, fps).astype(np.float32)
    up = np.array([0, 0, 1], dtype=np.float32) * rise[:, None, None]
    meshes = tuple(
        replace(mesh, vertices=mesh.vertices + up) if mesh.person == SUBJECT else mesh
        for mesh in scene.meshes
    )
    coordinates = take.coordinates.copy()
    coordinates[:, body.skeleton.coordinate_index("pelvis_ty")] += rise
    return replace(scene, meshes=meshes), coordinates


def renderer_of(config: Config) -> Renderer:
    """The config's renderer."""
    r = config.render
    if r.renderer == "raster":
        return get_renderer("raster", device=r.device, supersample=r.supersample)
    return get_renderer(r.renderer, samples=r.samples, plate_samples=4 * r.samples)


def mesh_volume(vertices: np.ndarray, faces: np.ndarray) -> float:
    """Volume, m3, of a closed mesh (V, 3), m, whose faces (F, 3) are counter-clockwise from outside.

    The sum of the signed tetrahedra over the faces (divergence theorem).
    """
    a, b, c = np.moveaxis(np.asarray(vertices, dtype=np.float64)[faces], 1, 0)
    return float((a * np.cross(b, c)).sum() / 6)


def _about(config, plan, attempt, body, subject, take, scene, reasons) -> dict:
    """What truth.json says of how a clip came about."""
    animation = take.animation
    shape = [round(float(v), 6) for v in np.ravel(subject.coefficients)]
    joints, markers = (
        {name: round(1000 * float(value), 3) for name, value in zip(*pair, strict=True)}
        for pair in (
            (animation.joint_names, animation.joint_residuals_m),
            (animation.marker_names, animation.marker_residuals_m),
        )
    )
    return {
        "clip": plan.name,
        "split": plan.split,
        "seed": [config.dataset.seed, plan.index, attempt],
        "subject": {
            "id": plan.name.split("/")[0],
            "seed": int(subject.seed),
            "body": body.name,
            "stature_m": round(float(subject.stature), 4),
            "shape": shape,
        },
        "motion": [{"frame": f, "kind": kind, "name": name} for f, kind, name in take.sequence.pieces],
        "scene": scene.notes,
        "render": asdict(config.render),
        "residuals": {
            "joint_rms_mm": round(1000 * animation.joint_rms_m, 3),
            "marker_rms_mm": round(1000 * animation.marker_rms_m, 3),
            "joints_mm": joints,
            "markers_mm": markers,
        },
        "rejected": reasons,
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of what the truth depends on."""
    return {
        "pose2sim_biokin": pose2sim_biokin.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": str(torch.__version__),
    }


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums in the same order whatever the number of cores: the same bytes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
