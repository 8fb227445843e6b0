"""Mask IoU of a segmenter on the held-out videos: ``python -m odah.segmenter.evaluate_segmenter --help``."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import cv2
import numpy as np

from odah.segmenter.frames import Frame, read_frames, split_frames
from pose2sim_biokin.segmentation import YoloSegmenter
from pose2sim_biokin.vision.background import NotStill, build_background, people_size, shrink, shrink_mask
from pose2sim_biokin.vision.foreground import Foreground
from pose2sim_biokin.vision.masks import PackedMask


def predict_masks(segmenter: YoloSegmenter, images: list[np.ndarray]) -> list[np.ndarray]:
    """Masks (n, H, W) bool of every image, best first, as the product makes them."""
    people = [segmenter.segment([image], "", [0])[0] for image in images]
    return [np.array([p.mask for p in found]) if found else np.zeros((0, 1, 1), bool) for found in people]


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two masks."""
    return float((a & b).sum() / max((a | b).sum(), 1))


def sharpened(images: list[np.ndarray], masks: list[np.ndarray]) -> list[np.ndarray]:
    """Masks (n, H, W) bool of every image of one video, made better by its still background.

    Args:
        images: (H, W, 3) uint8 BGR, in order.
        masks: of each, from :func:`predict_masks`; returned as they are where no background holds still.
    """
    packed = [[PackedMask.pack(mask) for mask in found if mask.any()] for found in masks]
    small = [shrink(image) for image in images]
    seen = [
        np.any([np.zeros(image.shape[:2], bool), *map(shrink_mask, found)], axis=0)
        for image, found in zip(small, packed, strict=True)
    ]
    try:
        foreground = Foreground(build_background(small, seen), people_size(seen))
    except NotStill:
        return masks
    people = [foreground.people(image, found) for image, found in zip(images, packed, strict=True)]
    return [np.array([p.mask for p in found]) if found else np.zeros((0, 1, 1), bool) for found in people]


def measure(segmenter: YoloSegmenter, frames: list[Frame]) -> dict[str, dict[str, dict[str, float]]]:
    """Scores of each video: of the "network" alone, and "with_background", where that holds still.

    Labels serve to measure only. See :func:`scores` for what is in a row.
    """
    tables: dict[str, dict[str, dict[str, float]]] = {"network": {}, "with_background": {}}
    for video in sorted({frame.video for frame in frames}):
        own = [frame for frame in frames if frame.video == video]
        images = [frame.image for frame in own]
        masks = predict_masks(segmenter, images)
        tables["network"][video] = scores(masks, own)
        tables["with_background"][video] = scores(sharpened(images, masks), own)
    return tables


def mean_iou(table: dict[str, dict[str, float]]) -> float:
    """Mean IoU over all frames of a table's videos."""
    total = sum(row["frames"] for row in table.values())
    return round(sum(row["iou"] * row["frames"] for row in table.values()) / total, 4)


def scores(masks: list[np.ndarray], frames: list[Frame]) -> dict[str, float]:
    """Frames, mean IoU of the best-matching instance (a miss counts 0) and of the first one, the share of
    misses (IoU under 0.5) and of frames with further instances.

    Args:
        masks: for each frame (n, H, W) bool, best first.
    """
    all_ious = [[iou(mask, frame.mask) for mask in found] for found, frame in zip(masks, frames, strict=True)]
    best = np.array([max(ious, default=0.0) for ious in all_ious])
    first = np.array([ious[0] if ious else 0.0 for ious in all_ious])
    return {
        "frames": len(frames),
        "iou": round(float(best.mean()), 4),
        "iou_top_score": round(float(first.mean()), 4),
        "median_iou": round(float(np.median(best)), 4),
        "misses": round(float((best < 0.5).mean()), 4),
        "more_than_one": round(float(np.mean([len(ious) > 1 for ious in all_ious])), 4),
    }


def sheet(images: list[np.ndarray], found: list[np.ndarray], columns: int, width: int) -> np.ndarray:
    """A contact sheet with the outlines of the masks (n, H, W) found in each image."""
    tiles = []
    for image, masks in zip(images, found, strict=True):
        drawn = image.copy()
        line = max(1, image.shape[1] // 300)
        for k, mask in enumerate(masks):
            contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(drawn, contours, -1, [(0, 0, 255), (0, 255, 0), (255, 0, 0)][k % 3], line)
        tiles.append(cv2.resize(drawn, (width, round(width * image.shape[0] / image.shape[1]))))
    height = max(t.shape[0] for t in tiles)
    tiles = [cv2.copyMakeBorder(t, 0, height - t.shape[0], 0, 0, cv2.BORDER_CONSTANT) for t in tiles]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    return np.vstack([np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)])


def main() -> None:
    """Print the table as JSON; write a sheet if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--frames", type=Path, required=True)
    parser.add_argument("--size", type=int, nargs="+", default=[320])
    parser.add_argument("--confidence", type=float, default=0.25)
    parser.add_argument("--close-up", type=int, default=256, help="longer side of a second look")
    parser.add_argument("--largest", type=int, default=200, help="people of more pixels get one, too")
    parser.add_argument("--every", type=int, default=1, help="measure every n-th frame only")
    parser.add_argument("--sheet", type=Path, help="PNG of some held-out frames with the predicted outlines")
    options = parser.parse_args()
    os.environ.setdefault("YOLO_OFFLINE", "true")
    _, held_out = split_frames(read_frames(options.frames))
    held_out = held_out[:: options.every]
    for size in options.size:
        segmenter = YoloSegmenter(
            options.weights,
            image_size=size,
            confidence=options.confidence,
            close_up=options.close_up,
            largest=options.largest,
        )
        tables = measure(segmenter, held_out)
        print(json.dumps({"size": size, **{k: mean_iou(t) for k, t in tables.items()}, "videos": tables}))
    if options.sheet:
        pictures, found = [], []
        for video in sorted({frame.video for frame in held_out}):
            images = [frame.image for frame in held_out if frame.video == video]
            masks = sharpened(images, predict_masks(segmenter, images))
            step = max(1, len(images) // 5)
            pictures, found = pictures + images[::step][:5], found + masks[::step][:5]
        cv2.imwrite(str(options.sheet), sheet(pictures, found, 5, 320))


if __name__ == "__main__":
    main()
