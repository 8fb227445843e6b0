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


def predict_masks(segmenter: YoloSegmenter, images: list[np.ndarray]) -> list[np.ndarray]:
    """Masks (n, H, W) bool of every image, best first, as the product makes them."""
    people = [segmenter.segment([image], "", [0])[0] for image in images]
    return [np.array([p.mask for p in found]) if found else np.zeros((0, 1, 1), bool) for found in people]


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two masks."""
    return float((a & b).sum() / max((a | b).sum(), 1))


def measure(segmenter: YoloSegmenter, frames: list[Frame]) -> dict[str, dict[str, float]]:
    """Per video: frames, mean IoU of the best-matching instance (a miss counts 0) and of the best-scored one,
    the share of misses (IoU under 0.5) and of frames with further instances.
    """
    rows: dict[str, list[tuple[float, float, int]]] = {}
    for frame in frames:
        masks = predict_masks(segmenter, [frame.image])[0]
        scores = [iou(m, frame.mask) for m in masks]
        rows.setdefault(frame.video, []).append(
            (max(scores, default=0.0), scores[0] if scores else 0.0, len(masks))
        )
    table = {}
    for video, values in sorted(rows.items()):
        best, first, count = (np.array(x, dtype=float) for x in zip(*values, strict=True))
        table[video] = {
            "frames": len(values),
            "iou": round(best.mean(), 4),
            "iou_top_score": round(first.mean(), 4),
            "median_iou": round(float(np.median(best)), 4),
            "misses": round(float((best < 0.5).mean()), 4),
            "more_than_one": round(float((count > 1).mean()), 4),
        }
    return table


def sheet(segmenter: YoloSegmenter, images: list[np.ndarray], columns: int, width: int) -> np.ndarray:
    """A contact sheet with the outlines of the predicted masks."""
    tiles = []
    for image, masks in zip(images, predict_masks(segmenter, images), strict=True):
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
        print(json.dumps({"size": size, **measure(segmenter, held_out)}), flush=True)
    if options.sheet:
        chosen = [f.image for f in held_out[:: max(1, len(held_out) // 15)]]
        picture = sheet(segmenter, chosen, 5, 320)
        cv2.imwrite(str(options.sheet), picture)


if __name__ == "__main__":
    main()
