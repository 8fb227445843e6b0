"""Errors on crop caches: single frames through the encoder, dense windows through the whole predictor."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from odah.dataset import FrameMaker, ShardSet, find_shards, ordered_batches
from odah.evaluation.errors import Posed, frame_errors, pose_skeleton
from odah.evaluation.summary import Scored, motion_name, separation_name
from odah.windows import window_rows
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.network.ensemble import encode
from pose2sim_biokin.network.heads import AngleLayout, Pose
from pose2sim_biokin.network.sequence import turn_pose
from pose2sim_biokin.predictor import Predictor, ViewCrops
from pose2sim_biokin.skeleton.angles import CONSTRAINED, angles_to_coordinates
from pose2sim_biokin.vision.canonical import ground_from_canonical_ground

WINDOW = 64  # frames
DENSE_HZ = 60.0  # of dense caches, see odah.crops
_BATCH = 32


def is_cache(folder: Path) -> bool:
    """The folder is a shard or holds some."""
    return any((path.parent / "rgb.npy").is_file() for path in Path(folder).rglob("manifest.json"))


def is_dense(shards: ShardSet) -> bool:
    """The frames follow one another at DENSE_HZ: the manifests say so, or, of older caches, there are whole
    windows.
    """
    manifests = [json.loads((p / "manifest.json").read_text(encoding="utf-8")) for p in shards.paths]
    said = [m.get("dense", abs(m["fps"] - DENSE_HZ) < 0.5 if "fps" in m else None) for m in manifests]
    if False in said:
        return False
    try:
        window_rows(shards, WINDOW)
    except BiokinError:
        return False
    return True


def score_cache(
    predictor: Predictor, folders: Sequence[str | Path], data: str, method: str, limit: int | None = None
) -> list[Scored]:
    """Errors on a cache, of whichever kind it is.

    Args:
        folders: of shards. data, method: what they are called in tables.
        limit: at most so many frames, spread evenly (single frames only).
    """
    shards = ShardSet(find_shards(folders))
    if is_dense(shards):
        return score_windows(predictor, shards, data, method)
    return score_frames(predictor, shards, data, method, limit)


@torch.no_grad()
def score_frames(
    predictor: Predictor, shards: ShardSet, data: str, method: str, limit: int | None = None
) -> list[Scored]:
    """Errors of the frame encoder on single pairs, asked as in use; one item a clip."""
    network = predictor.network
    maker = FrameMaker(network.layout, network.preset.points.in_use)
    columns: dict[str, list[np.ndarray]] = {}
    for batch, truth in ordered_batches(shards, maker, _BATCH, limit=limit):
        out, _ = encode(network, type(batch)(*(part.to(predictor.device) for part in batch)))
        out = Pose(*(None if part is None else part.cpu() for part in out))
        turn, origin = ground_from_canonical_ground(truth.frame)
        posed = [_posed(turn_pose(pose, turn, origin), network.layout) for pose in (out, truth.pose)]
        errors = frame_errors(*posed, rate=None)
        if out.pelvis is None:  # the network does not say where the person is
            errors["mpjpe_mm"] = errors["pelvis_mm"] = np.full(len(errors["missing"]), np.nan)
        for name, values in (errors | {"wanted": truth.pose.constrained.numpy()}).items():
            columns.setdefault(name, []).append(values)
    table = {name: np.concatenate(parts) for name, parts in columns.items()}
    rows = np.arange(len(shards))
    if limit is not None and limit < len(rows):
        rows = rows[np.linspace(0, len(rows) - 1, limit).round().astype(int)]
    groups = {kind: labels[rows] for kind, labels in _groups(shards).items()}
    scored = []
    for name, mine in _by_clip(_clip_names(shards)[rows]):
        chosen = {column: values[mine] for column, values in table.items() if column != "wanted"}
        labels = {kind: values[mine] for kind, values in groups.items()}
        scored.append(Scored(data, name, method, chosen, labels, table["wanted"][mine]))
    return scored


@torch.no_grad()
def score_windows(predictor: Predictor, shards: ShardSet, data: str, method: str) -> list[Scored]:
    """Errors of the whole predictor, as on real recordings, on dense windows; one item a window."""
    skeleton = predictor.network.skeleton
    names, groups = _clip_names(shards), _groups(shards)
    constrained = [skeleton.coordinate_index(name) for name in CONSTRAINED]
    scored = []
    for rows in window_rows(shards, WINDOW):
        raw = shards.rows(rows)
        found = np.ones(len(rows), dtype=bool)
        views = tuple(
            ViewCrops(raw.rgb[:, v], raw.mask[:, v], raw.K[:, v], raw.R[:, v], raw.t[:, v], found)
            for v in (0, 1)
        )
        motion = predictor.predict(views, np.arange(len(rows)) / DENSE_HZ)
        posed = pose_skeleton(skeleton, motion.coordinates, motion.scales)
        wanted = pose_skeleton(skeleton, raw.coordinates, raw.scales)
        errors = frame_errors(posed, wanted, DENSE_HZ)
        labels = {kind: values[rows] for kind, values in groups.items()}
        truth = raw.coordinates[:, constrained]
        scored.append(Scored(data, f"{names[rows[0]]}@{rows[0]}", method, errors, labels, truth))
    return scored


def _posed(pose: Pose, layout: AngleLayout) -> Posed:
    """Poses of batch shape (B,), in the world's ground."""
    coordinates = angles_to_coordinates(layout.angles(pose), layout.skeleton)
    pelvis = None if pose.pelvis is None else pose.pelvis.double().numpy()
    return pose_skeleton(layout.skeleton, coordinates.numpy(), pose.scales.numpy(), pelvis)


def _groups(shards: ShardSet) -> dict[str, np.ndarray]:
    """Kind of grouping -> (n,) names of all pairs: caches are rasterised."""
    headings = []
    for arrays in shards.arrays:
        axes = np.asarray(arrays["R"], dtype=np.float64)[:, :, 2]  # (n, 2, 3) optical axes in the world
        headings.append(np.degrees(np.arctan2(axes[..., 1], axes[..., 0])))
    first, second = np.concatenate(headings).T
    apart = np.abs((first - second + 180) % 360 - 180)
    return {
        "motion": motion_kinds(shards),
        "separation": np.array([separation_name(angle) for angle in apart]),
        "renderer": np.full(len(shards), "raster"),
        "subject": shards.column("subject").astype(str),
    }


def motion_kinds(shards: ShardSet) -> np.ndarray:
    """(n,) names of the motions, such as "action: squat"; recorded ones only as "recorded"."""
    kinds = []
    for path, arrays in zip(shards.paths, shards.arrays, strict=True):
        names = json.loads((path / "manifest.json").read_text(encoding="utf-8")).get("motions")
        for index in arrays["motion"]:
            name = str(names[index]) if names else str(index)
            kinds.append(motion_name(*name.split(": ", 1)) if ": " in name else name)
    return np.array(kinds)


def _clip_names(shards: ShardSet) -> np.ndarray:
    """(n,) shard and clip of each pair, such as "shard-00001/65"."""
    paths = np.repeat([path.name for path in shards.paths], shards.counts)
    return np.char.add(np.char.add(paths, "/"), shards.column("clip").astype(str))


def _by_clip(names: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Each name with its rows, in order of the first."""
    unique, first = np.unique(names, return_index=True)
    for i in np.argsort(first):
        yield str(unique[i]), np.flatnonzero(names == unique[i])
