"""The report of a synthetic comparison: its size, how long it takes to write, and when a browser is ready.

Two results of 1,000 frames at 30 Hz, in which every free coordinate moves, with pictures of two cameras. The
page is opened from disk in headless Chromium, each time in a fresh browser, with WebGL in software;
"interactive" is when the 3D view, the controls and the curves on the screen are there and answer (a mark that
the page sets), counted from the start of the navigation. "All figures" is when those below the screen are
drawn as well.

    python benchmarks/report.py
    python benchmarks/report.py --frames 10000 --keep report.html
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from report_browser import chromium, missing  # noqa: E402
from report_samples import write_trial  # noqa: E402

from pose2sim_biokin.compare.build import compare_results  # noqa: E402
from pose2sim_biokin.report import write_comparison_report  # noqa: E402


def moving(seed: int):
    """A change that makes every free coordinate move, differently for every seed."""

    def change(time, coordinates, skeleton):
        rng = np.random.default_rng(seed)
        free = ~(skeleton.locked | skeleton.dependent)
        phase = rng.uniform(0, 6, len(free))
        waves = np.where(skeleton.is_rotational, 0.2, 0.02) * np.sin(4 * time[:, None] + phase)
        noise = rng.normal(0, 0.003, coordinates.shape)
        coordinates = coordinates + np.where(free, waves + noise, 0.0)
        coordinates[:, skeleton.coordinate_index("pelvis_tx")] = 0.5 * np.sin(0.6 * time)  # to and fro
        return coordinates

    return change


def ready(path: Path) -> tuple[float, float]:
    """Seconds from the start of the navigation until the page answers, and until all figures are drawn."""
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(120_000)
        page.goto(path.resolve().as_uri())
        page.wait_for_function("document.documentElement.dataset.ready === 'true'")
        first = page.evaluate("performance.getEntriesByName('interactive')[0].startTime")
        page.wait_for_function("document.documentElement.dataset.complete === 'true'")
        return first / 1000, page.evaluate("performance.now()") / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=5, help="how often the page is opened")
    parser.add_argument("--keep", type=Path, help="also write the page here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "walk"
        ours = write_trial(folder, arguments.frames, recordings=True, change=moving(0))
        theirs = write_trial(folder, arguments.frames, label="opensim", change=moving(1))
        comparison = compare_results([theirs, ours], trial="walk")
        start = time.perf_counter()
        path = write_comparison_report(comparison, folder / "report.html")
        seconds = time.perf_counter() - start
        print(f"{arguments.frames} frames: {path.stat().st_size / 1e6:.2f} MB, written in {seconds:.2f} s")
        if arguments.keep:
            shutil.copyfile(path, arguments.keep)
        reason = missing()
        if reason:
            sys.exit(f"Not opened: {reason}.")
        times = [ready(path) for _ in range(arguments.runs)]
    load = f", load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores" if hasattr(os, "getloadavg") else ""
    for what, values in zip(("interactive", "all figures"), zip(*times, strict=True), strict=True):
        spread = f"best {min(values):.2f}, worst {max(values):.2f}"
        print(f"{what:12} {statistics.median(values):.2f} s ({spread}){load}")


if __name__ == "__main__":
    main()
