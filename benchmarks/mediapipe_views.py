"""What MediaPipe Pose sees in each camera of a recording of one person: masks, and landmarks as a judge.

It knows nothing of this package, and its masks are better than those of the bundled segmenter: what the
network does with them says how much is the masks' fault. The releases that bring their model along (0.10.18)
need NumPy below 2, so this script runs in an environment of its own and imports nothing of the package:

    python -m venv mp && mp/bin/pip install mediapipe==0.10.18
    mp/bin/python benchmarks/mediapipe_views.py DEMO/videos --output seen
    python benchmarks/demo_pairs.py --looked seen --segmentation masks

Written: DIR/masks/<camera>/<frame>.png, white on the person, as `[biokin] segmentation = "masks"` reads them,
and DIR/landmarks/<camera>.npy (frames, 33, 3): pixels and visibility; NaN where nobody is found.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import mediapipe
import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos", type=Path, help="folder of one .mp4 for each camera")
    parser.add_argument("--output", type=Path, required=True, help="folder for masks and landmarks")
    args = parser.parse_args()
    videos = sorted(args.videos.glob("*.mp4"))
    if not videos:
        raise SystemExit(f"{args.videos}: no .mp4 in this folder.")
    (args.output / "landmarks").mkdir(parents=True, exist_ok=True)
    for video in videos:
        landmarks = look_at(video, args.output / "masks" / video.stem)
        np.save(args.output / "landmarks" / f"{video.stem}.npy", landmarks)
        print(f"{video.name}: {np.isfinite(landmarks[:, 0, 0]).sum()} of {len(landmarks)} frames", flush=True)


def look_at(video: Path, masks: Path) -> np.ndarray:
    """Landmarks (frames, 33, 3) of a video; writes its masks into a folder."""
    masks.mkdir(parents=True, exist_ok=True)
    capture, found = cv2.VideoCapture(str(video)), []
    options = {"smooth_landmarks": False, "smooth_segmentation": False}
    with mediapipe.solutions.pose.Pose(model_complexity=1, enable_segmentation=True, **options) as pose:
        while True:
            read, image = capture.read()
            if not read:
                return np.array(found)
            height, width = image.shape[:2]
            seen = pose.process(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
            mask, points = np.zeros((height, width), np.uint8), np.full((33, 3), np.nan)
            if seen.pose_landmarks is not None:
                mask[seen.segmentation_mask > 0.5] = 255
                marks = seen.pose_landmarks.landmark
                points = np.array([(m.x * width, m.y * height, m.visibility) for m in marks])
            cv2.imwrite(str(masks / f"{len(found):06d}.png"), mask)
            found.append(points)


if __name__ == "__main__":
    main()
