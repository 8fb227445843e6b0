"""How well the body surface can overlap dressed people at all: the true pose and scales of rendered crops.

The check of every run (`pose2sim_biokin.check`) draws a bare surface of mean girth; this is what a perfect
result would reach.

    python benchmarks/surface_ceiling.py CACHE --pairs 200
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

from odah.dataset import ShardSet, find_shards
from pose2sim_biokin.skeleton import ForwardKinematics, load_skeleton
from pose2sim_biokin.skeleton.rotations import ground_to_world
from pose2sim_biokin.skeleton.surface import load_surface
from pose2sim_biokin.vision.camera import Camera
from pose2sim_biokin.vision.silhouettes import mask_iou, silhouette


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cache", nargs="+", help="folders of shards (odah crops)")
    parser.add_argument("--pairs", type=int, default=200, help="spread evenly (default: %(default)s)")
    args = parser.parse_args()
    shards = ShardSet(find_shards(args.cache))
    raw = shards.rows(np.linspace(0, len(shards) - 1, args.pairs).round().astype(int))
    skeleton = load_skeleton()
    surface, kinematics = load_surface(skeleton), ForwardKinematics(skeleton, dtype=torch.float64)
    scales = torch.from_numpy(raw.scales).double()
    frames = kinematics(torch.from_numpy(raw.coordinates).double(), scales)
    vertices = ground_to_world(surface.pose(frames, scales)).numpy()
    size = raw.mask.shape[-1]
    overlap = []
    for row in range(len(raw.mask)):
        for view in range(2):
            lens = (raw.K[row, view], np.zeros(4), raw.R[row, view], raw.t[row, view])
            camera = Camera("crop", size, size, *(np.asarray(part, dtype=np.float64) for part in lens))
            outline = silhouette(camera, vertices[row], surface.faces)
            overlap.append(mask_iou(outline, raw.mask[row, view] > 0))
    low, middle = np.percentile(overlap, [10, 50])
    print(
        f"{len(overlap)} pictures: IoU {np.mean(overlap):.3f}, median {middle:.3f}, 10th percentile {low:.3f}"
    )


if __name__ == "__main__":
    main()
