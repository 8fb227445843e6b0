"""A second look at every keypoint: where the views show it, once it is roughly known.

At and around each keypoint's place in each view the maps are sampled again, those of the first convolution,
which show it sharply, and the last ones, which know what it is. All keypoints look at each other (attention),
then each is moved across the views' lines of sight, and says how far off it probably still is. Further looks
begin where the one before ended, and know what it knew. Feedback of that kind, on meshes: PyMAF (Zhang et al.
2021).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pose2sim_biokin.network.meeting import AttentionLayer
from pose2sim_biokin.network.points import full_precision, project, sample_maps
from pose2sim_biokin.network.presets import LookSize

_RINGS_PX = 3.0, 6.0  # on which the early and the late maps are sampled, in pixels of crops of 128
_AROUND = 8  # places on a ring
_MOVE_M = 0.1  # of an output of 1
USUAL_M = 0.01  # what the doubts begin at


class Looked(NamedTuple):
    """What a look found out.

    Attributes:
        keypoints: (B, K, 3) m, in the cameras' frame.
        doubt: (B, K) a third of the distance that each expects to be off, m.
        known: (B, K, W) of each keypoint, for a further look.
    """

    keypoints: Tensor
    doubt: Tensor
    known: Tensor


class SecondLook(nn.Module):
    """Moves keypoints, and says how sure each is.

    The last layer starts at zero: added to a trained network, the look moves nothing at first.

    Args:
        size: see LookSize.
        early, late: channels of the maps of half and of a quarter of the pictures' side.
        keypoints: K; the first one is where the skeleton starts.
        further: it follows another look.
    """

    def __init__(self, size: LookSize, early: int, late: int, keypoints: int, further: bool = False):
        super().__init__()
        self.read = nn.Linear((early + late) * (1 + _AROUND) + 9, size.width)
        self.which = nn.Parameter(0.02 * torch.randn(keypoints, size.width))
        self.join = nn.Linear(2 * size.width, size.width)
        self.whose = nn.Parameter(0.02 * torch.randn(keypoints, size.width))
        self.layers = nn.ModuleList(
            AttentionLayer(size.width, size.heads, size.expansion) for _ in range(size.layers)
        )
        self.remember = nn.Linear(size.width, size.width) if further else None
        self.norm = nn.LayerNorm(size.width)
        self.leave = nn.Linear(size.width, 5)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(
        self,
        keypoints: Tensor,
        early: Tensor,
        late: Tensor,
        cameras: tuple[Tensor, Tensor, Tensor],
        size: int,
        before: Looked | None = None,
    ) -> Looked:
        """Look again.

        Args:
            keypoints: (B, K, 3) m, in the cameras' frame.
            early, late: maps (2B, C, H, H), two views a pair.
            cameras: K, R (B, 2, 3, 3), t (B, 2, 3), of pictures of side `size`.
            before: what the look before a further one found out; its keypoints are `keypoints`.
        """
        K, R, t = cameras
        known = keypoints.detach().float()
        pixels = project(known, K, R, t)
        seen = [
            _sample_about(maps.unflatten(0, (-1, 2)), pixels, radius * size / 128, size)
            for maps, radius in zip((early, late), _RINGS_PX, strict=True)
        ]
        x = F.relu(self.read(torch.cat([*seen, _geometry(known, R, t)], -1)) + self.which)  # (B, 2, K, W)
        x = self.join(torch.cat([x[:, 0], x[:, 1]], -1)) + self.whose
        if self.remember is not None:
            x = x + self.remember(before.known)
        for layer in self.layers:
            x = layer(x)
        out = self.leave(self.norm(x)).float()  # (B, K, 5)
        # (B, 2, K, 2): to the right and down in each view
        moves = out[..., :4].unflatten(-1, (2, 2)).transpose(1, 2)
        moved = keypoints + _MOVE_M * (moves @ R[:, :, :2]).sum(1)
        usual = USUAL_M if before is None else before.doubt
        return Looked(moved, usual * out[..., 4].clamp(-4, 4).exp(), x)


@full_precision
def _geometry(keypoints: Tensor, R: Tensor, t: Tensor) -> Tensor:
    """(B, 2, K, 9) of each view, in its camera's axes: the way from the first keypoint, the direction from
    which the other view looks, and the vertical.
    """
    away = 2 * (keypoints - keypoints[:, :1])[:, None] @ R.transpose(-1, -2)
    center = -(R.transpose(-1, -2) @ t[..., None])[..., 0]  # (B, 2, 3)
    rays = F.normalize(keypoints[:, None] - center[:, :, None], dim=-1).flip(1) @ R.transpose(-1, -2)
    up = R[..., None, :, 2].expand_as(rays)
    return torch.cat([away, rays, up], -1)


def _sample_about(maps: Tensor, pixels: Tensor, radius: float, size: int) -> Tensor:
    """Maps (B, 2, C, H, H) at pixels (B, 2, K, 2) and on rings about them: (B, 2, K, P C)."""
    angle = torch.arange(_AROUND, device=pixels.device) * (2 * torch.pi / _AROUND)
    ring = radius * torch.stack([angle.cos(), angle.sin()], -1)
    places = pixels[..., None, :] + torch.cat([torch.zeros_like(ring[:1]), ring])  # (B, 2, K, P, 2)
    return sample_maps(maps, places.flatten(2, 3), size).unflatten(2, places.shape[2:4]).flatten(3)
