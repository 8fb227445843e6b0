"""Cached pairs of views to batches of the network: random masks, light, mirroring and points every epoch.

A *shard* is a folder of .npy files that `odah crops` and `odah cache` write (n pairs): rgb (n, 2, S, S, 3)
uint8, the background black or what the camera saw, mask
(n, 2, S, S) uint8, K (n, 2, 3, 3), R (n, 2, 3, 3), t (n, 2, 3) of the crop cameras in a Z-up world,
coordinates (n, 39) in that world's OpenSim ground, scales (n, 22, 3), subject, motion, clip, frame (n,), and
a manifest.json, written last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from odah.augment import Augmentation
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.network.biokin import FrameBatch, normalize_images
from pose2sim_biokin.network.heads import AngleLayout, Pose
from pose2sim_biokin.skeleton.angles import rotations_to_free_angles
from pose2sim_biokin.skeleton.kinematics import ForwardKinematics
from pose2sim_biokin.vision.canonical import (
    CanonicalFrame,
    canonical_frame,
    ground_from_canonical_ground,
    to_canonical,
)
from pose2sim_biokin.vision.hull import hull_center, sample_hull_points

ARRAYS = ("rgb", "mask", "K", "R", "t", "coordinates", "scales", "subject", "motion", "clip", "frame")


class Targets(NamedTuple):
    """The truth of each frame, in the canonical ground.

    Attributes:
        pose: see Pose.
        angles: (B, 36) rad.
        keypoints: (B, 2 nb + nm, 3) joint centres, mass centres, markers, m.
        coordinates: (B, nc) of the world, as cached.
        frame: the canonical frames.
    """

    pose: Pose
    angles: Tensor
    keypoints: Tensor
    coordinates: Tensor
    frame: CanonicalFrame


class RawBatch(NamedTuple):
    """Cached pairs as they are: arrays of `ARRAYS` but the names, B rows; tensors if a worker made them."""

    rgb: np.ndarray
    mask: np.ndarray
    K: np.ndarray
    R: np.ndarray
    t: np.ndarray
    coordinates: np.ndarray
    scales: np.ndarray


def augmented(raw: RawBatch, augmentation: Augmentation | None, rng: np.random.Generator) -> RawBatch:
    """Cached pairs as they are shown this time."""
    return raw if augmentation is None else augmentation(raw, rng)


def find_shards(folders: Sequence[str | Path]) -> list[Path]:
    """Finished shards at or below the folders, sorted; BiokinError when there is none."""
    found: set[Path] = set()
    for folder in folders:
        found.update(
            path.parent for path in Path(folder).rglob("manifest.json") if (path.parent / "rgb.npy").is_file()
        )
    if not found:
        raise BiokinError(
            f"No shards (folders with rgb.npy and manifest.json) under {', '.join(str(f) for f in folders)}: "
            "run `odah crops` first, or `odah cache` for a data set of clips."
        )
    return sorted(found)


class ShardSet:
    """Several shards as one list of pairs; pictures stay on disk (memory-mapped)."""

    def __init__(self, shards: Sequence[str | Path]):
        self.paths = [Path(shard) for shard in shards]
        self.arrays: list[dict[str, np.ndarray]] = []
        for path in self.paths:
            arrays = {name: np.load(path / f"{name}.npy", mmap_mode="r") for name in ("rgb", "mask")}
            arrays |= {
                name: np.load(path / f"{name}.npy") for name in ARRAYS[2:] if (path / f"{name}.npy").is_file()
            }
            rows = {name: len(array) for name, array in arrays.items()}
            if len(set(rows.values())) != 1:
                raise BiokinError(f"{path}: arrays of different length {rows}; generate this shard again.")
            if self.arrays and arrays["rgb"].shape[1:] != self.arrays[0]["rgb"].shape[1:]:
                sides = [a["rgb"].shape[2] for a in (arrays, self.arrays[0])]
                raise BiokinError(
                    f"{path}: crops of {sides[0]} pixels, those of {self.paths[0]} have {sides[1]}; make "
                    "caches of one --size."
                )
            self.arrays.append(arrays)
        self.counts = np.array([len(arrays["rgb"]) for arrays in self.arrays])
        self.starts = np.concatenate([[0], np.cumsum(self.counts)])

    def __reduce__(self) -> tuple:
        return ShardSet, (self.paths,)  # another process maps the pictures itself

    def __len__(self) -> int:
        return int(self.starts[-1])

    def column(self, name: str) -> np.ndarray:
        """A small array (not a picture) of all pairs."""
        return np.concatenate([arrays[name] for arrays in self.arrays])

    def rows(self, indices: np.ndarray) -> RawBatch:
        """Copies of the pairs of some indices, in their order."""
        shard = np.searchsorted(self.starts, indices, side="right") - 1
        parts = {}
        for name in RawBatch._fields:
            first = self.arrays[0][name]
            out = np.empty((len(indices), *first.shape[1:]), first.dtype)
            for s in np.unique(shard):
                chosen = np.flatnonzero(shard == s)
                out[chosen] = self.arrays[s][name][indices[chosen] - self.starts[s]]
            parts[name] = out
        return RawBatch(**parts)


class FrameMaker(nn.Module):
    """Raw pairs to network input and truth, on the device that it was moved to.

    Args:
        layout: of the network.
        points: hull points N.
        augmentation: what is varied, or None.
    """

    def __init__(self, layout: AngleLayout, points: int, augmentation: Augmentation | None = None):
        super().__init__()
        self.layout, self.points, self.augmentation = layout, points, augmentation
        self.kinematics = ForwardKinematics(layout.skeleton)
        self.bodies = [layout.skeleton.body_index(n) for n in ("pelvis", "torso", "humerus_r", "humerus_l")]

    @torch.no_grad()
    def forward(self, raw: RawBatch, rng: np.random.Generator) -> tuple[FrameBatch, Targets]:
        """See FrameBatch and Targets; the same generator state gives the same batch."""
        return self.make(augmented(raw, self.augmentation, rng), int(rng.integers(2**62)))

    @torch.no_grad()
    def make(self, raw: RawBatch, seed: int) -> tuple[FrameBatch, Targets]:
        """The same of pairs that have been varied; `seed` is that of the points on the hull."""
        rgb, masks = (torch.as_tensor(a, device=self.device) for a in (raw.rgb, raw.mask))
        K, R, t, coordinates, scales = (
            torch.as_tensor(a, device=self.device, dtype=torch.float32)
            for a in (raw.K, raw.R, raw.t, raw.coordinates, raw.scales)
        )
        generator = torch.Generator().manual_seed(seed)
        points, _, _ = sample_hull_points(masks, K, R, t, self.points, generator=generator)
        frame = canonical_frame(hull_center(points), R[:, 0])
        R, t, points = to_canonical(frame, R, t, points)
        masks = masks[:, :, None]
        images = rgb.permute(0, 1, 4, 2, 3)
        batch = FrameBatch(normalize_images(images), (masks > 0).float(), K, R, t, points)
        return batch, self.targets(coordinates, scales, frame)

    @property
    def device(self) -> torch.device:
        """Where it works."""
        return self.layout.low.device

    def targets(self, coordinates: Tensor, scales: Tensor, frame: CanonicalFrame) -> Targets:
        """The truth in canonical frames of batch shape (B,), from world coordinates (B, nc), scales
        (B, nb, 3).
        """
        coordinates, scales = coordinates.float(), scales.float()
        frames = self.kinematics(coordinates, scales)
        keypoints = torch.cat(
            [self.kinematics.keypoints(frames, scales), self.kinematics.markers(frames, scales)], 1
        )
        turn, origin = ground_from_canonical_ground(frame)
        pelvis, torso, right, left = (frames.rotation[:, b] for b in self.bodies)
        back = turn.transpose(-1, -2)
        upright = torso.transpose(-1, -2)
        rotations = torch.stack([back @ pelvis, upright @ right, upright @ left], 1)
        names = self.layout.skeleton.coordinate_names
        index = [i for i, name in enumerate(names) if name not in ("pelvis_tx", "pelvis_ty", "pelvis_tz")]
        constrained = coordinates[:, index][:, self.layout.constrained]
        center = ((frames.position[:, self.bodies[0]] - origin)[:, None] @ turn)[:, 0]
        pose = Pose(rotations, constrained, scales, center)
        angles = self.layout.join(rotations_to_free_angles(rotations, self.layout.skeleton), constrained)
        return Targets(pose, angles, (keypoints - origin[:, None]) @ turn, coordinates, frame)


def ordered_batches(
    shards: ShardSet, maker: FrameMaker, batch_size: int, seed: int = 0, limit: int | None = None
) -> Iterator[tuple[FrameBatch, Targets]]:
    """All pairs in order, or `limit` pairs spread evenly over them."""
    indices = np.arange(len(shards))
    if limit is not None and limit < len(indices):
        indices = indices[np.linspace(0, len(indices) - 1, limit).round().astype(int)]
    for first in range(0, len(indices), batch_size):
        chosen = indices[first : first + batch_size]
        yield maker(shards.rows(chosen), np.random.default_rng([seed, first]))
