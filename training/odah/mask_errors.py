"""How a segmenter's masks differ from the true ones, and whether training's mask errors are like them.

    python -m odah.mask_errors DATASET --output DIR

The bundled segmenter is run on the films of a data set's clips, alone and with its masks sharpened by the
still background, as in `biokin run`. True and found masks are cut out alike, about the true mask, and
compared; then the true masks with the errors that training makes of them (`odah.mask_noise`). Written:
mask_errors.md (the figures side by side), mask_errors.json, and masks.png to look at: true masks, found ones
and varied ones.

All lengths are in pixels of a crop of 128; areas are shares of the person's.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from odah.clips import Clip
from odah.datasets import read_dataset
from odah.mask_noise import MaskNoise
from odah.segmenter.evaluate_segmenter import iou, predict_masks, sharpened
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.segmentation import YoloFactory
from pose2sim_biokin.vision.crops import mask_to_crop, warp_to_crop

SIZE = 128
_LEAST_PIXELS = 150  # of the person in a picture
_MISSED = 0.3  # IoU under which a mask is not of the subject
_CLEAR = 2.5  # pixels beyond the outline from which on it is a lump or a hole
_SPECK = 12  # pixels; less is no lump
_END = 4.0  # radius in pixels about the end of a limb
_ENDS = ("hand_r_com", "hand_l_com", "RTOE", "LTOE", "RCAL", "LCAL")
SHIPPED = "bundled"


def clip_masks(clip: Clip, segmenter, every: int = 1) -> list[dict[str, np.ndarray]]:
    """For each frame and camera in which the subject is seen: masks (128, 128) uint8 "true", and "found" and
    "sharpened" (absent where it was missed), and "ends" (6, 2), pixels of hands, toes and heels.
    """
    rows = []
    for k, camera in enumerate(clip.cameras):
        frames = range(0, clip.frames, every)
        images, truths = list(clip.images(k, frames)), list(clip.masks(k, frames))
        found = predict_masks(segmenter, images)
        better = sharpened(images, found)
        points = clip.world_points[frames.start : frames.stop : frames.step]
        index = [clip.names.index(name) for name in _ENDS]
        for i, true in enumerate(truths):
            if true.sum() < _LEAST_PIXELS:
                continue
            try:
                crop = mask_to_crop(camera, true, SIZE)
            except ValueError:
                continue
            row = {
                "true": warp_to_crop(camera, crop, images[i], true)[1],
                "ends": crop.project(points[i, index]),
            }
            for name, masks in (("found", found[i]), ("sharpened", better[i])):
                best = max(masks, key=lambda mask: iou(mask, true), default=None)
                if best is not None and iou(best, true) >= _MISSED:
                    row[name] = warp_to_crop(camera, crop, images[i], best)[1]
            rows.append(row)
    return rows


def compare(true: np.ndarray, found: np.ndarray, ends: np.ndarray) -> dict[str, float | np.ndarray]:
    """How one mask (S, S) differs from the true one."""
    t, f = true > 0, found > 0
    outside = cv2.distanceTransform((~t).astype(np.uint8), cv2.DIST_L2, 3)
    inside = cv2.distanceTransform(t.astype(np.uint8), cv2.DIST_L2, 3)
    signed = np.where(t, 0.5 - inside, outside - 0.5)  # 0 on the outline
    edge = f & (cv2.erode(found, np.ones((3, 3), np.uint8), borderValue=0) == 0)
    area = max(int(t.sum()), 1)
    lumps = _parts(f & ~t, signed > _CLEAR)
    holes = _parts(t & ~f, cv2.distanceTransform((~f).astype(np.uint8), cv2.DIST_L2, 3) > _CLEAR)
    y, x = np.mgrid[: true.shape[0], : true.shape[1]]
    lost, seen = 0, 0
    for u, v in ends:
        disc = ((x - u) ** 2 + (y - v) ** 2 < _END**2) & t if np.isfinite(u + v) else np.zeros_like(t)
        if disc.sum() >= 0.5 * np.pi * _END**2 * 0.5:
            seen += 1
            lost += (disc & f).sum() < 0.3 * disc.sum()
    return {
        "iou": iou(t, f),
        "area": f.sum() / area,
        "offsets": signed[edge].clip(-8, 8),
        "lumps": len(lumps),
        "lump_area": sum(lumps) / area,
        "holes": len(holes),
        "hole_area": sum(holes) / area,
        "ends_seen": seen,
        "ends_lost": int(lost),
    }


def _parts(wrong: np.ndarray, clear: np.ndarray) -> list[int]:
    """Areas of the parts of a wrong area that reach clear of the outline."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        (wrong & clear).astype(np.uint8), connectivity=8
    )
    return [int(a) for a in stats[1:count, cv2.CC_STAT_AREA] if a >= _SPECK]


def statistics(pairs: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Figures of many (true, found, ends)."""
    rows = [compare(*pair) for pair in pairs]
    columns = {key: np.array([row[key] for row in rows]) for key in rows[0] if key != "offsets"}
    offsets = np.concatenate([row["offsets"] for row in rows])
    means = np.array([row["offsets"].mean() for row in rows])
    result = {"masks": len(rows), "IoU, mean": columns["iou"].mean()}
    result |= {f"IoU, {q} %": np.percentile(columns["iou"], q) for q in (5, 25, 50, 75, 95)}
    result |= {f"offset of the outline, {q} %": np.percentile(offsets, q) for q in (5, 25, 50, 75, 95)}
    result["offset of a whole mask, deviation"] = means.std()
    result["offset within a mask, deviation"] = np.mean([row["offsets"].std() for row in rows])
    result["area over the true one, mean"] = columns["area"].mean()
    for name in ("lump", "hole"):
        has = columns[f"{name}s"] > 0
        result[f"masks with {name}s"] = has.mean()
        result[f"{name}s a mask"] = columns[f"{name}s"].mean()
        result[f"area of the {name}s, mean"] = columns[f"{name}_area"].mean()
        result[f"area of the {name}s where there are some, median"] = (
            np.median(columns[f"{name}_area"][has]) if has.any() else 0.0
        )
    result["hands, toes and heels lost"] = columns["ends_lost"].sum() / max(columns["ends_seen"].sum(), 1)
    return {key: float(value) for key, value in result.items()}


def augmented(rows: Sequence[dict], noise: MaskNoise, times: int, seed: int = 0) -> list[tuple]:
    """(true, varied, ends) of every true mask, some times over."""
    rng = np.random.default_rng(seed)
    return [(row["true"], noise(row["true"], rng), row["ends"]) for _ in range(times) for row in rows]


def measured(rows: Sequence[dict], name: str) -> list[tuple]:
    """(true, found, ends) where the subject was found."""
    return [(row["true"], row[name], row["ends"]) for row in rows if name in row]


def fit(
    rows: Sequence[dict], target: dict[str, float], trials: int, start: MaskNoise, log=print
) -> MaskNoise:
    """The errors whose figures are nearest to the target's, by random steps from `start`."""

    def distance(noise: MaskNoise) -> float:
        found = statistics(augmented(rows, noise, 1))
        return sum(
            min(abs(found[key] - value) / (0.1 * abs(value) + 0.02), 6.0) ** 2
            for key, value in target.items()
            if key != "masks"
        )

    rng = np.random.default_rng(0)
    best, least = start, distance(start)
    for trial in range(trials):
        step = 0.35 * (1 - trial / trials) + 0.05
        values = {}
        for name in start.__dataclass_fields__:
            value = np.array(getattr(best, name), dtype=float)
            if rng.random() < 0.4:
                value = value * np.exp(step * rng.standard_normal(value.shape))
                if name == "offset":
                    value = value + step * rng.standard_normal(2) * (1, 0)
            values[name] = value.tolist()
            if name in ("smooth", "end_radius"):  # smallest and largest
                values[name] = sorted(values[name])
            if value.ndim:
                values[name] = tuple(values[name])
        candidate = MaskNoise(**values)
        found = distance(candidate)
        if found < least:
            best, least = candidate, found
            log(f"trial {trial}: {least:.1f} {best}")
    return best


def table(columns: dict[str, dict[str, float]]) -> str:
    """Figures side by side, as Markdown."""
    names = list(columns)
    lines = [f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for key in columns[names[0]]:
        cells = (
            f"{columns[name][key]:.3f}" if key != "masks" else f"{columns[name][key]:.0f}" for name in names
        )
        lines.append(f"| {key} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def sheet(rows: Sequence[dict], noise: MaskNoise, count: int = 12) -> np.ndarray:
    """(H, W, 3) uint8: true, found, sharpened and three varied masks; green what is missing, red what is
    too much.
    """
    rng = np.random.default_rng(1)
    rows = [row for row in rows if "found" in row and "sharpened" in row]
    chosen = [rows[i] for i in np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)]
    lines = []
    for row in chosen:
        true = row["true"]
        tiles = []
        for mask in (true, row["found"], row["sharpened"], *(noise(true, rng) for _ in range(3))):
            tile = np.full((*mask.shape, 3), 30, np.uint8)
            tile[(mask > 0) & (true > 0)] = 220
            tile[(mask > 0) & (true == 0)] = (60, 60, 255)
            tile[(mask == 0) & (true > 0)] = (60, 200, 60)
            tiles.append(np.pad(tile, ((1, 1), (1, 1), (0, 0))))
        lines.append(np.hstack(tiles))
    half = (len(lines) + 1) // 2
    lines += [np.zeros_like(lines[0])] * (2 * half - len(lines))
    return np.hstack([np.vstack(lines[:half]), np.vstack(lines[half:])])


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path, help="folder that `odah generate` made")
    parser.add_argument("--output", type=Path, required=True, help="folder for the figures and the sheet")
    parser.add_argument("--segmenter", default=SHIPPED, help="weights (default: the package's)")
    parser.add_argument("--every", type=int, default=1, help="use each n-th frame")
    parser.add_argument(
        "--fit", type=int, default=0, help="look for errors that are nearer, in so many trials"
    )
    args = parser.parse_args(arguments)
    try:
        return _main(args)
    except BiokinError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _main(args: argparse.Namespace) -> int:
    args.output.mkdir(parents=True, exist_ok=True)
    dataset = read_dataset(args.dataset)
    kept = args.output / "masks.pt"
    if kept.is_file():
        rows = [{k: v.numpy() for k, v in row.items()} for row in torch.load(kept, weights_only=True)]
    else:
        segmenter = YoloFactory().load(args.segmenter, device="cpu", batch_size=8, project_dir=args.dataset)
        rows = []
        for name in dataset.names():
            rows += clip_masks(dataset.clip(name), segmenter, args.every)
            print(f"{name}: {len(rows)} masks", file=sys.stderr, flush=True)
        torch.save([{k: torch.from_numpy(v.copy()) for k, v in row.items()} for row in rows], kept)
    noise = MaskNoise()
    columns = {name: statistics(measured(rows, name)) for name in ("found", "sharpened")}
    both = [pair for name in ("found", "sharpened") for pair in measured(rows, name)]
    columns["both"] = statistics(both)
    if args.fit:
        noise = fit(rows, columns["both"], args.fit, noise)
    columns["augmentation"] = statistics(augmented(rows, noise, 4))
    about = {
        f"missed, {name}": float(np.mean([name not in row for row in rows]))
        for name in ("found", "sharpened")
    }
    text = table(columns) + "\n" + "".join(f"{key}: {value:.1%}\n" for key, value in about.items())
    (args.output / "mask_errors.md").write_text(text, encoding="utf-8")
    (args.output / "mask_errors.json").write_text(json.dumps(columns | {"about": about}, indent=1), "utf-8")
    cv2.imwrite(str(args.output / "masks.png"), sheet(rows, noise))
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
