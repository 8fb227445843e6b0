"""The whole network: picture encoder, points, head, temporal refinement."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.network.fit import PoseFit
from pose2sim_biokin.network.hands import HandLook, HandTurns
from pose2sim_biokin.network.heads import (
    SCALE_UNIT,
    AngleLayout,
    DirectHead,
    KeypointHead,
    Pose,
    local_keypoints,
    pose_features,
)
from pose2sim_biokin.network.hourglass import StackedHourglass
from pose2sim_biokin.network.look import SecondLook
from pose2sim_biokin.network.meeting import cell_rays
from pose2sim_biokin.network.points import (
    FlattenPoints,
    HeatmapPeaks,
    KeypointPooling,
    heatmap_peaks,
    project,
    sample_maps,
)
from pose2sim_biokin.network.presets import Preset
from pose2sim_biokin.network.unet import TemporalFilter, TemporalUNet
from pose2sim_biokin.skeleton.model import Skeleton
from pose2sim_biokin.skeleton.rotations import sixd_to_matrix, world_to_ground

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class FrameBatch(NamedTuple):
    """Frames as the network reads them, in the canonical frame (Z up), the same in training and use.

    Attributes:
        images: (B, 2, 3, S, S) float32 RGB, normalised by ImageNet's mean and deviation, with whatever is
            around the person: the network blanks it if its preset says so.
        masks: (B, 2, 1, S, S) float32, 1 on the person.
        K, R, t: (B, 2, 3, 3), (B, 2, 3, 3), (B, 2, 3) crop cameras.
        points: (B, N, 3) hull points, m.
    """

    images: Tensor
    masks: Tensor
    K: Tensor
    R: Tensor
    t: Tensor
    points: Tensor


class FrameOutput(NamedTuple):
    """What the encoder says of each frame, in the canonical ground (Y up).

    Attributes:
        pose: see Pose.
        angles: (B, 36) rad; of free joints without gradient where they are predicted as rotations.
        keypoints: (B, K, 3) m, or None: joint centres, mass centres, then markers if the preset has them.
        local: (B, 2 nb, 3) joint and mass centres in the pelvis's estimated frame, m, or None; with a second
            look (B, 2 nb, 4), the last ln(doubt / 1 cm) / 2.
        feature: (B, D) what the refinement reads (of single frames, not turned into a window's frame).
        heatmaps: logits (B, 2, 2 nb, H, H) of each stack.
        peaks: of the last heatmaps, or None.
        hands: what the closer look at the hands says, or None.
        doubt: (B, K) a third of the distance that each keypoint expects to be off, m, or None.
    """

    pose: Pose
    angles: Tensor
    keypoints: Tensor | None
    local: Tensor | None
    feature: Tensor
    heatmaps: list[Tensor]
    peaks: HeatmapPeaks | None
    hands: HandTurns | None = None
    doubt: Tensor | None = None


def normalize_images(images: Tensor) -> Tensor:
    """RGB (..., 3, S, S) in 0..255 in units of ImageNet's deviation from its mean."""
    mean = torch.tensor(IMAGENET_MEAN, device=images.device)[:, None, None]
    std = torch.tensor(IMAGENET_STD, device=images.device)[:, None, None]
    return (images.float() / 255 - mean) / std


def blank_background(images: Tensor, masks: Tensor) -> Tensor:
    """Normalised pictures (..., 3, S, S), black outside of masks (..., 1, S, S)."""
    return torch.where(masks > 0, images, normalize_images(images.new_zeros(3, 1, 1)))


def keypoint_count(preset: Preset, skeleton: Skeleton) -> int:
    """Keypoints of an encoder that predicts them: joint centres, mass centres, and markers if it has them."""
    return 2 * len(skeleton.body_names) + (len(skeleton.marker_names) if preset.points.markers else 0)


class FrameEncoder(nn.Module):
    """Two views and hull points to one pose a frame.

    Args:
        preset: sizes and switches.
        skeleton: gives the numbers of bodies, angles and markers.
    """

    def __init__(self, preset: Preset, skeleton: Skeleton):
        super().__init__()
        self.preset = preset
        self.layout = AngleLayout(skeleton)
        points, hourglass = preset.points, preset.hourglass
        if preset.background and not hourglass.mask_channel:
            raise BiokinError(
                f"preset {preset.name!r}: it sees what is around the person, but not who that is; turn on "
                "hourglass.mask_channel, or background off."
            )
        centers = 2 * self.layout.bodies
        self.hourglass = StackedHourglass(hourglass, centers)
        self.sampled_width = (hourglass.out_channels or hourglass.channels) * points.stacks_sampled
        if points.head == "flatten":
            if points.finer != 1:
                raise BiokinError(
                    f"preset {preset.name!r}: points.finer is {points.finer}, but flattened points are "
                    "always as many; set it to 1."
                )
            self.points = FlattenPoints(points, self.sampled_width)
            self.head = DirectHead(self.layout, self.points.width)
        else:
            heatmaps = centers if hourglass.heatmaps else 0
            keypoints = keypoint_count(preset, skeleton)
            self.points = KeypointPooling(points, self.sampled_width, keypoints, heatmaps)
            self.head = KeypointHead(preset, self.layout, keypoints, points.token + 3, 0)
        self.look = None
        if preset.look.width:
            if points.head == "flatten":
                raise BiokinError(
                    f"preset {preset.name!r}: the second look is at keypoints, which only points.head = "
                    '"attention" has; turn that on or the look off (look.width = 0).'
                )
            inputs = preset.look, hourglass.stem_channels, self.sampled_width, keypoints
            self.look = SecondLook(*inputs)
            self.further = nn.ModuleList(SecondLook(*inputs, True) for _ in range(preset.look.further))
        self.hands = None
        if preset.hands.channels:
            if points.head == "flatten" or not points.markers:
                raise BiokinError(
                    f"preset {preset.name!r}: the hands are found by keypoints, markers among them "
                    '(points.head = "attention", points.markers = true); turn them on or the hands off '
                    "(hands.channels = 0)."
                )
            self.hands = HandLook(preset.hands, skeleton)

    def forward(self, batch: FrameBatch) -> FrameOutput:
        """See FrameOutput."""
        size = batch.images.shape[-1]
        if not self.preset.background:
            batch = batch._replace(images=blank_background(batch.images, batch.masks))
        views = batch.images.flatten(0, 1)
        if self.preset.hourglass.mask_channel:
            views = torch.cat([views, batch.masks.flatten(0, 1).to(views.dtype)], 1)
        cameras = batch.K, batch.R, batch.t
        outs, heats, early = self.hourglass(
            views.contiguous(memory_format=torch.channels_last), lambda side: cell_rays(*cameras, size, side)
        )
        heats = [heat.unflatten(0, (-1, 2)) for heat in heats]
        maps = torch.cat(outs[-self.preset.points.stacks_sampled :], 1)  # (2B, C, H, H)
        pixels = project(batch.points, batch.K, batch.R, batch.t)
        sampled = sample_maps(maps.unflatten(0, (-1, 2)), pixels, size)  # (B, 2, N, C)
        if isinstance(self.points, FlattenPoints):
            feature, angles, scales = self.head(self.points(batch.points, sampled))
            pose = self.layout.pose(angles.float(), scales.float(), None)
            return FrameOutput(pose, angles.float(), None, None, feature.float(), heats, None)
        heat_samples = peaks = None
        if heats and self.points.heatmaps:
            peaks = heatmap_peaks(heats[-1], size)
            heat_samples = sample_maps(heats[-1], pixels, size)
        keypoints, tokens = self.points(batch.points, sampled, heat_samples, peaks, cameras)
        hands = doubt = None
        if self.look is not None:
            looked = self.look(keypoints, early, maps, cameras, size)
            for look in self.further:
                looked = look(looked.keypoints, early, maps, cameras, size, looked)
            keypoints, doubt, _ = looked
        if self.hands is not None:
            hands = self.hands(batch.images, batch.masks, cameras, keypoints.detach().float())
        with torch.autocast(keypoints.device.type, enabled=False):
            keypoints = world_to_ground(keypoints.float())
            pose = self.head(keypoints, tokens.float(), keypoints.new_zeros(len(keypoints), 0))
            local = local_keypoints(keypoints, doubt, self.layout)
            feature = pose_features(pose, local, self.layout, True)
            angles = self.layout.angles(pose)
        return FrameOutput(pose, angles, keypoints, local, feature, heats, peaks, hands, doubt)


class Refiner(nn.Module):
    """Temporal network over windows of poses: angles for every frame, one set of scales for the window."""

    def __init__(self, preset: Preset, layout: AngleLayout):
        super().__init__()
        self.layout, self.preset, self.size = layout, preset, preset.refinement
        scales = 3 * layout.bodies
        if preset.rotations:
            self.parts = [len(layout.constrained), 18, scales, 3 if preset.pelvis else 0]
            known = 4 if preset.look.width else 3  # of each centre
            keypoints = known * 2 * layout.bodies if preset.points.head == "attention" else 0
            features = sum(self.parts) + keypoints
        else:
            self.parts = [layout.count, scales]
            features = sum(self.parts)
        self.net = TemporalUNet(self.size, features, sum(self.parts))
        self.skip = TemporalFilter(sum(self.parts), self.size.smoothing) if self.size.smoothing else None

    def forward(self, pose: Pose, local: Tensor | None) -> tuple[Pose, Tensor]:
        """Refine windows.

        Args:
            pose: (B, T, ...) in the window's frame (see `window_frame` of the predictor).
            local: (B, T, 2 nb, 3 or 4) keypoints in the pelvis's frame, or None; see FrameOutput.

        Returns:
            the pose with scales (B, 1, nb, 3), and raw angles (B, T, 36).
        """
        layout = self.layout
        placed = pose if self.preset.pelvis else pose._replace(pelvis=None)
        x = pose_features(placed, local, layout, self.preset.rotations)  # (B, T, D)
        y = self.net(x.transpose(1, 2)).transpose(1, 2)
        if self.size.residual:
            known = x[..., : y.shape[-1]]
            y = y + (known if self.skip is None else self.skip(known.transpose(1, 2)).transpose(1, 2))
        if self.preset.rotations:
            a, r, s, p = y.split(self.parts, -1)
            rotations = sixd_to_matrix(r.unflatten(-1, (3, 6)))
            constrained = layout.middle + layout.reach * a
            scales = s.mean(1, keepdim=True).unflatten(-1, (-1, 3)) / SCALE_UNIT + 1
            refined = Pose(rotations, constrained, scales, p if self.preset.pelvis else pose.pelvis)
            return refined, layout.angles(refined)
        a, s = y.split(self.parts, -1)
        scales = s.mean(1, keepdim=True).unflatten(-1, (-1, 3)) / SCALE_UNIT + 1
        return layout.pose(a, scales, pose.pelvis), a


class BiokinNetwork(nn.Module):
    """Frame encoder and, where the preset has them, the fit to its keypoints and the refinement."""

    def __init__(self, preset: Preset, skeleton: Skeleton):
        super().__init__()
        self.preset, self.skeleton = preset, skeleton
        self.encoder = FrameEncoder(preset, skeleton)
        self.fit = None
        if preset.fit:
            if preset.points.head != "attention" or not (preset.rotations and preset.pelvis):
                raise BiokinError(
                    f'preset {preset.name!r}: the fit needs keypoints (points.head = "attention"), rotations '
                    "and pelvis; turn them on or leave the fit out."
                )
            count = keypoint_count(preset, skeleton)
            self.fit = PoseFit(preset.fit, self.encoder.layout, count, preset.hands.channels > 0)
        self.refiner = Refiner(preset, self.encoder.layout) if preset.refinement else None

    @property
    def layout(self) -> AngleLayout:
        """Where the angles lie."""
        return self.encoder.layout
