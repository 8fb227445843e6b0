"""Put a trained segmenter into the package: ``python -m odah.segmenter.publish_segmenter --help``."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch

from odah.segmenter.evaluate_segmenter import mean_iou, measure
from odah.segmenter.frames import HELD_OUT_VIDEOS, read_frames, split_frames
from pose2sim_biokin.segmentation import YoloSegmenter

DATA = Path(__file__).parents[3] / "pose2sim_biokin" / "data"


def main() -> None:
    """Measure on the held-out videos, then write person_segmenter.pt and .json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="output folder of train_segmenter")
    parser.add_argument("--frames", type=Path, required=True, help="folder with images/*.jpg and masks/*.png")
    parser.add_argument("--sprites", type=int, required=True, help="number of rendered sprites trained on")
    parser.add_argument("--size", type=int, required=True, help="imgsz to measure at and to recommend")
    parser.add_argument("--confidence", type=float, default=0.25)
    parser.add_argument("--close-up", type=int, default=256, help="longer side of a second look")
    parser.add_argument("--largest", type=int, default=200, help="people of more pixels get one, too")
    parser.add_argument(
        "--earlier", type=Path, help="record (.json) of the weights that the run started from (--initial)"
    )
    parser.add_argument("--photographs", nargs="+", default=[], help="sources of the photographs, if any")
    parser.add_argument("--device", default="CPU", help="what it was trained on, in words")
    parser.add_argument("--architecture", default="yolo11n-seg.yaml")
    parser.add_argument("--output", type=Path, default=DATA)
    options = parser.parse_args()
    os.environ.setdefault("YOLO_OFFLINE", "true")
    state = torch.load(options.run / "last.pt", map_location="cpu", weights_only=True)
    weights = (options.run / "segmenter.pt").read_bytes()
    target = options.output / "person_segmenter.pt"
    temporary = target.with_name("person_segmenter_new.pt")
    temporary.write_bytes(weights)
    segmenter = YoloSegmenter(
        temporary,
        image_size=options.size,
        confidence=options.confidence,
        close_up=options.close_up,
        largest=options.largest,
    )
    train, held_out = split_frames(read_frames(options.frames))
    tables = measure(segmenter, held_out)
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent
    )
    record = {
        "file": target.name,
        "sha256": hashlib.sha256(weights).hexdigest(),
        "architecture": f"{options.architecture} of ultralytics {version('ultralytics')}, one class (person)",
        "licence": "AGPL-3.0 (the network and its code are ultralytics'; the weights are given under it)",
        "parameters": sum(p.numel() for p in segmenter.model.model.parameters()),
        "precision": "float16",
        "imgsz": options.size,
        "conf": options.confidence,
        "close_up": options.close_up,
        "largest": options.largest,
        "training": {
            "from_scratch": True,
            "steps": state["step"],
            "samples_seen": state["seen"],
            "seconds": round(state["seconds"]),
            "started_from": _earlier(options.earlier),
            "device": options.device,
            "commit": commit.stdout.strip(),
            "data": {
                "real_frames": len(train),
                "real_videos": sorted({f.video for f in train}),
                "rendered_people": options.sprites,
                "what": "composites of cut-out real people and rendered people of the built-in body on "
                "procedural rooms and on the real videos' empty backgrounds, and whole real frames",
                "photographs": options.photographs,
                "sources": {
                    "oc_*": "Seeeeeyo/opencap-visualizer, Apache-2.0",
                    "s2d_*": "davidpagnon/Sports2D, BSD-3-Clause",
                    "labels": "MediaPipe Pose (heavy)",
                },
            },
        },
        "held_out": {
            "videos_never_trained_on": list(HELD_OUT_VIDEOS),
            "mean_iou": mean_iou(tables["network"]),
            "per_video": tables["network"],
            "with_background": {
                "mean_iou": mean_iou(tables["with_background"]),
                "per_video": tables["with_background"],
            },
            "meaning": "mask IoU of the best-matching instance with the MediaPipe label, a miss counting 0; "
            "with_background: after sharpening by the still background, learnt from the same few frames",
        },
    }
    temporary.replace(target)
    text = json.dumps(record, indent=2) + "\n"
    target.with_suffix(".json").write_text(text, encoding="utf-8")
    print(text)


def _earlier(record: Path | None) -> dict | None:
    """What the earlier weights had been through, from their record; None for a run from random weights."""
    if record is None:
        return None
    known = json.loads(record.read_text(encoding="utf-8"))
    training = {k: known["training"][k] for k in ("steps", "samples_seen", "seconds", "commit")}
    return {"sha256": known["sha256"], **training}


if __name__ == "__main__":
    main()
