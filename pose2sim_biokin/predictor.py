"""From two views of one person to a Motion: owns the device, the batches, the frame rate and the windows.

``Predictor(weights="default", device="auto", batch_size=32, seed=0)`` loads a checkpoint;
``Predictor.predict(views, time, *, max_gap_s=0.5, progress=None)`` takes two :class:`ViewCrops` and the frame
times and returns a :class:`pose2sim_biokin.motion.Motion` at the same times.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.motion import FrameQuality, Motion
from pose2sim_biokin.network.biokin import FrameBatch, normalize_images
from pose2sim_biokin.network.checkpoint import load_checkpoint, parameters
from pose2sim_biokin.network.ensemble import encode
from pose2sim_biokin.network.heads import Pose
from pose2sim_biokin.network.sequence import (
    refine_sequence,
    resample_linear,
    resample_pose,
    resample_rotations,
    turn_pose,
)
from pose2sim_biokin.skeleton.angles import (
    angles_to_coordinates,
    rotations_to_free_angles_continuous,
)
from pose2sim_biokin.skeleton.kinematics import ForwardKinematics
from pose2sim_biokin.skeleton.rotations import ground_to_world
from pose2sim_biokin.vision.canonical import canonical_frame, ground_from_canonical_ground, to_canonical
from pose2sim_biokin.vision.hull import hull_center, sample_hull_points

Progress = Callable[[str, int, int], None]
_STAGE = "Joint angles"


@dataclass(frozen=True)
class ViewCrops:
    """One view of a trial, as virtual crop cameras that look at the person; every array has T rows.

    Attributes:
        images: (T, S, S, 3) uint8, **RGB** (turn OpenCV's BGR round first), with what is around the
            person, which networks that do not want it blank by the mask.
        masks: (T, S, S) uint8 or bool, non-zero on the person.
        K: (T, 3, 3) crop camera matrices, pixels, pixel centres at whole numbers, no lens distortion.
        R: (T, 3, 3) rotations of the crop cameras, world (Z up) to camera (OpenCV axes).
        t: (T, 3) translations, metres: x_pixel = K (R X_world + t).
        found: (T,) bool, whether the person was found in this frame; rows that are False may hold anything
            finite (zeros will do).
    """

    images: np.ndarray
    masks: np.ndarray
    K: np.ndarray
    R: np.ndarray
    t: np.ndarray
    found: np.ndarray


class _Frames(NamedTuple):
    """What the encoder said of the frames in which both views show the person; F rows, world's ground."""

    pose: Pose
    local: Tensor | None
    headings: Tensor
    centers: Tensor
    fill: Tensor
    extent: Tensor


class Predictor:
    """A network with its weights, ready for trials.

    Args:
        weights: "default" (shipped with the package) or the path of a checkpoint.
        device: "auto" (CUDA, then Apple's, then the CPU), "cpu", "cuda", "mps", or any name PyTorch knows.
        batch_size: frames at a time.
        seed: of the hull points; the same input and seed give the same Motion.

    Attributes:
        image_size: side S of the crops the network wants.
        skeleton: name of the skeleton.
        device: torch.device in use.

    Raises:
        BiokinError: no such device; see `load_checkpoint`.
    """

    def __init__(
        self, weights: str | Path = "default", device: str = "auto", batch_size: int = 32, seed: int = 0
    ):
        self.checkpoint = load_checkpoint(weights)
        self.device = choose_device(device)
        self.network = self.checkpoint.network.to(self.device)
        self.batch_size, self.seed = int(batch_size), int(seed)
        self.image_size = self.network.preset.size
        self.skeleton = self.network.skeleton.name
        self._kinematics = ForwardKinematics(self.network.skeleton).to(self.device)

    @torch.no_grad()
    def predict(
        self,
        views: tuple[ViewCrops, ViewCrops],
        time: np.ndarray,
        *,
        max_gap_s: float = 0.5,
        progress: Progress | None = None,
    ) -> Motion:
        """The motion of the person in both views.

        Frames in which a view lacks the person are filled in from their neighbours when the gap is no longer
        than `max_gap_s`, and flagged; in longer gaps, and before the first and after the last sight of the
        person, the coordinates are NaN. All crops are held in memory: 131 kB a frame at S = 128, a few
        thousand frames with ease.

        Args:
            views: crops of side `image_size`, both with T rows.
            time: (T,) seconds, rising.
            max_gap_s: see above.
            progress: called with ("Joint angles", frames done, frames in all).

        Returns:
            coordinates (T, nc) without jumps in the world's ground, one set of scales, and the quality.

        Raises:
            BiokinError: shapes or times do not fit, or the person is never seen in both views.
        """
        began = perf_counter()
        time = np.asarray(time, dtype=np.float64)
        self._check(views, time)
        found = np.stack([np.asarray(view.found, dtype=bool) for view in views], 1)
        both = np.flatnonzero(found.all(1))
        if len(both) == 0:
            raise BiokinError(
                "The person is never seen in both views at the same time "
                f"({int(found[:, 0].sum())} and {int(found[:, 1].sum())} of {len(time)} frames): check the "
                "masks, the sync offsets and the choice of views."
            )
        frames = self._encode(views, both, progress or (lambda *_: None))
        encoded = perf_counter()
        if frames.pose.pelvis is None:
            frames = frames._replace(pose=self._place(frames.pose, frames.centers))

        count, nc = len(time), len(self.network.skeleton.coordinate_names)
        coordinates = np.full((count, nc), np.nan)
        scales, parts = [], []
        for rows in _segments(both, time, max_gap_s):
            inside = np.arange(rows[0], rows[-1] + 1)
            mine = torch.as_tensor(np.searchsorted(both, rows), device=self.device)
            pose = self._smooth(frames, mine, time[rows], time[inside])
            scales.append(pose.scales)
            parts.append((inside, pose))
        # Robust: the median over all frames of what their windows (or the frames themselves) say.
        factors = torch.cat(scales).median(0).values
        reference = None
        for inside, pose in parts:
            coordinates[inside], reference = self._coordinates(pose, factors, reference)
        quality = self._quality(views, found, frames, both, coordinates, factors)
        info = {
            "weights": str(self.checkpoint.path),
            "weights_sha256": self.checkpoint.sha256,
            "preset": self.network.preset.name,
            "parameters": parameters(self.network),
            "device": str(self.device),
            "seed": self.seed,
            "encoder_s": round(encoded - began, 3),
            "refinement_s": round(perf_counter() - encoded, 3),
        }
        return Motion(time, coordinates, factors.double().cpu().numpy(), self.skeleton, quality, info)

    def _check(self, views: tuple[ViewCrops, ViewCrops], time: np.ndarray) -> None:
        if len(views) != 2:
            raise BiokinError(f"The network takes two views, found {len(views)}.")
        if time.ndim != 1 or len(time) == 0 or (np.diff(time) <= 0).any():
            raise BiokinError("The frame times must be rising numbers, at least one.")
        size = self.image_size
        for number, view in enumerate(views):
            shapes = {
                "images": (size, size, 3),
                "masks": (size, size),
                "K": (3, 3),
                "R": (3, 3),
                "t": (3,),
                "found": (),
            }
            for name, shape in shapes.items():
                has = np.shape(getattr(view, name))
                if has != (len(time), *shape):
                    raise BiokinError(f"View {number + 1}: {name} is {has}, expected {(len(time), *shape)}.")

    def _encode(self, views: tuple[ViewCrops, ViewCrops], rows: np.ndarray, progress: Progress) -> _Frames:
        results = []
        progress(_STAGE, 0, len(rows))
        for first in range(0, len(rows), self.batch_size):
            chosen = rows[first : first + self.batch_size]
            crops = [
                np.stack([np.asarray(getattr(v, name))[chosen] for v in views], 1)
                for name in ("images", "masks", "K", "R", "t")
            ]
            results.append(self._encode_batch(*crops))
            progress(_STAGE, min(first + self.batch_size, len(rows)), len(rows))
        pose = Pose(*(_join(parts) for parts in zip(*(r.pose for r in results), strict=True)))
        return _Frames(pose, *(_join(parts) for parts in list(zip(*results, strict=True))[1:]))

    def _encode_batch(
        self, images: np.ndarray, masks: np.ndarray, K: np.ndarray, R: np.ndarray, t: np.ndarray
    ) -> _Frames:
        """What the network, asked about each of them in several ways, says of frames (B, 2, ...)."""
        images, masks, K, R, t = (torch.from_numpy(array) for array in (images, masks, K, R, t))
        masks, K, R, t = masks[:, :, None] != 0, K.float(), R.float(), t.float()
        size = self.network.preset.points.in_use
        points, _, fill = sample_hull_points(masks, K, R, t, size, seed=self.seed)
        ends = torch.quantile(points, points.new_tensor([0.05, 0.95]), dim=1)
        canonical = canonical_frame(hull_center(points), R[:, 0])
        R, t, points = to_canonical(canonical, R, t, points)
        batch = FrameBatch(normalize_images(images.permute(0, 1, 4, 2, 3)), masks.float(), K, R, t, points)
        batch = FrameBatch(*(part.to(self.device) for part in batch))
        pose, local = encode(self.network, batch)
        turn, origin = (part.to(self.device) for part in ground_from_canonical_ground(canonical))
        return _Frames(turn_pose(pose, turn, origin), local, turn, origin, fill, ends[1] - ends[0])

    def _place(self, pose: Pose, centers: Tensor) -> Pose:
        """A pelvis for networks that predict none: the body's mass centre goes to the hull's centre."""
        layout = self.network.layout
        coordinates = angles_to_coordinates(layout.angles(pose), layout.skeleton)
        frames = self._kinematics(coordinates, pose.scales)
        mass = torch.tensor(layout.skeleton.masses, dtype=torch.float32, device=self.device)
        center = (self._kinematics.mass_centers(frames, pose.scales) * mass[:, None]).sum(1) / mass.sum()
        return pose._replace(pelvis=centers - center + frames.position[:, 0])

    def _smooth(self, frames: _Frames, mine: Tensor, time: np.ndarray, wanted: np.ndarray) -> Pose:
        """Frames seen at `time` to a pose at `wanted`: filled in, and refined at the refinement's rate."""
        pose = Pose(*(None if part is None else part[mine] for part in frames.pose))
        refiner = self.network.refiner
        if refiner is None or len(wanted) == 1:
            return resample_pose(pose, time, wanted)
        steps = int(round((wanted[-1] - wanted[0]) * refiner.size.rate)) + 1
        even = wanted[0] + np.arange(steps) / refiner.size.rate
        if steps == len(wanted) and np.abs(even - wanted).max() < 0.05 / refiner.size.rate:
            even = wanted  # the video's own frames
        local = None if frames.local is None else resample_linear(frames.local[mine], time, even)
        headings = resample_rotations(frames.headings[mine], time, even)
        refined = refine_sequence(refiner, resample_pose(pose, time, even), local, headings, self.batch_size)
        return resample_pose(refined, even, wanted)

    def _coordinates(
        self, pose: Pose, factors: Tensor, reference: Tensor | None
    ) -> tuple[np.ndarray, Tensor]:
        skeleton, layout = self.network.skeleton, self.network.layout
        free = rotations_to_free_angles_continuous(pose.rotations.cpu(), skeleton, reference)
        angles = layout.join(free.to(self.device), pose.constrained)
        coordinates = angles_to_coordinates(angles, skeleton, pose.pelvis)
        full = self._kinematics.constrain(coordinates, factors.expand(len(coordinates), *factors.shape))
        # The pelvis's coordinates are its joint frame's, which may be moved from the body's origin.
        place = self._kinematics(full, factors.expand(len(full), *factors.shape)).position[:, 0]
        index = [skeleton.coordinate_index(name) for name in ("pelvis_tx", "pelvis_ty", "pelvis_tz")]
        full[:, index] += pose.pelvis - place
        return full.double().cpu().numpy(), free[-1]

    def _quality(
        self,
        views: tuple[ViewCrops, ViewCrops],
        found: np.ndarray,
        frames: _Frames,
        both: np.ndarray,
        coordinates: np.ndarray,
        factors: Tensor,
    ) -> FrameQuality:
        count = len(found)
        posed = np.isfinite(coordinates).all(1)
        fill, extent, overlap = np.zeros(count), np.full((count, 3), np.nan), np.full((count, 2), np.nan)
        fill[both], extent[both] = frames.fill.cpu().numpy(), frames.extent.cpu().numpy()
        q = torch.from_numpy(np.nan_to_num(coordinates)).float().to(self.device)
        body = self._kinematics(q, factors.expand(count, *factors.shape))
        joints = ground_to_world(self._kinematics.joint_centers(body, factors)).double().cpu().numpy()
        for v, view in enumerate(views):
            rows = np.flatnonzero(found[:, v] & posed)
            overlap[rows, v] = [_share_inside(joints[i], view, i) for i in rows]
        skeleton = self.network.skeleton
        free = ~skeleton.locked & skeleton.is_rotational
        low, high = skeleton.coordinate_ranges[free].T
        excess = np.maximum(low - coordinates[:, free], coordinates[:, free] - high)
        # A full turn of the pelvis is no violation: it has walked round.
        pelvis = [name.startswith("pelvis_") for name in np.array(skeleton.coordinate_names)[free]]
        excess[:, np.array(pelvis)] = 0
        violation = np.where(posed, np.maximum(np.nan_to_num(excess), 0).max(1), np.nan)
        return FrameQuality(found, posed & ~found.all(1), fill, extent, overlap, violation)


def choose_device(name: str) -> torch.device:
    """The device of a name; "auto" takes the best one there is; BiokinError when it cannot be used."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as e:
        reason = str(e).splitlines()[0]
        raise BiokinError(f"device: {name!r} cannot be used ({reason}); take auto or cpu.") from e
    return device


def _join(parts: tuple) -> Tensor | None:
    return None if parts[0] is None else torch.cat(parts)


def _segments(rows: np.ndarray, time: np.ndarray, max_gap_s: float) -> list[np.ndarray]:
    """Rows seen, cut where frames are missing for longer than `max_gap_s`."""
    spacing = float(np.median(np.diff(time))) if len(time) > 1 else 0.0
    missing_s = np.diff(time[rows]) - spacing
    cuts = np.flatnonzero((np.diff(rows) > 1) & (missing_s > max_gap_s + 1e-9)) + 1
    return np.split(rows, cuts)


def _share_inside(points: np.ndarray, view: ViewCrops, row: int) -> float:
    """Share of world points (M, 3) that project on the person's mask."""
    camera = points @ view.R[row].T + view.t[row]
    pixels = camera @ view.K[row].T
    xy = np.round(pixels[:, :2] / np.maximum(pixels[:, 2:], 1e-6)).astype(int)
    size = view.masks.shape[1]
    seen = (camera[:, 2] > 0) & (xy >= 0).all(1) & (xy < size).all(1)
    xy = np.clip(xy, 0, size - 1)
    return float((seen & (view.masks[row][xy[:, 1], xy[:, 0]] != 0)).mean())
