"""The demo from videos to files: wall time by stage, and peak memory.

Pose2Sim's single-person demo (2 views of 100 frames of 1080 x 1920 pixels) is copied into a temporary folder,
and each pair of views is run in a fresh process: start-up, stages, CPU time and peak resident memory
are those of that process.

    python benchmarks/demo.py
    python benchmarks/demo.py --views cam01,cam04 --segmentation masks --project FOLDER
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CHILD = """
import json, sys, time
start = time.perf_counter()
from pose2sim_biokin.pipeline import run_trial
from Pose2Sim.Pose2Sim import read_config_files
project, overrides, output = json.loads(sys.argv[1])
_, (config, *_) = read_config_files(project)
config.setdefault("project", {})["project_dir"] = project
config.setdefault("biokin", {}).update(overrides)
startup = time.perf_counter() - start
result = run_trial(config)
with open(output, "w", encoding="utf-8") as file:
    json.dump({"start-up": startup, **result.timings}, file)
"""


def measure(project: Path, overrides: dict) -> tuple[dict[str, float], float, float]:
    """Seconds by stage, peak memory in MB and CPU seconds of one run in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "timings.json"
        arguments = json.dumps([str(project), overrides, str(output)])
        start = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-c", CHILD, arguments], cwd=folder)
        peak, cpu = _wait(process)
        wall = time.perf_counter() - start
        if process.returncode:
            raise SystemExit(f"the run failed with exit code {process.returncode}")
        return {**json.loads(output.read_text(encoding="utf-8")), "process": wall}, peak, cpu


def _wait(process: subprocess.Popen) -> tuple[float, float]:
    """Peak resident memory in MB and CPU seconds of a process, when it has ended."""
    if hasattr(os, "wait4"):
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        unit = 1e6 if sys.platform == "darwin" else 1e3  # bytes there, kilobytes elsewhere
        return usage.ru_maxrss / unit, usage.ru_utime + usage.ru_stime
    process.wait()
    return float("nan"), float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--views", action="append", help="two cameras; may be given again (default: cam01,cam04 cam02,cam03)"
    )
    parser.add_argument("--project", type=Path, help="a project to run instead of the demo")
    parser.add_argument("--segmentation", help="as in [biokin]")
    parser.add_argument("--weights", help="as in [biokin]")
    parser.add_argument("--device", default="cpu", help="as in [biokin] (default: %(default)s)")
    parser.add_argument("--no-overlay", action="store_true", help="without the overlay videos")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        if args.project is None:
            from pose2sim_biokin.demo import make_demo

            project = make_demo(Path(folder) / "demo")
        else:
            project = args.project.resolve()
        given = {"segmentation": args.segmentation, "device": args.device}
        given["weights"] = args.weights and str(Path(args.weights).resolve())
        given["overlay_video"] = False if args.no_overlay else None
        overrides = {key: value for key, value in given.items() if value is not None}
        for pair in args.views or ["cam01,cam04", "cam02,cam03"]:
            timings, peak, cpu = measure(project, {**overrides, "views": pair.split(",")})
            load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
            print(f"\n{pair} on {os.cpu_count()} cores{load}")
            for stage, seconds in timings.items():
                print(f"  {stage:24} {seconds:8.2f} s")
            print(f"  {'CPU time':24} {cpu:8.2f} s\n  {'peak memory':24} {peak:8.0f} MB", flush=True)


if __name__ == "__main__":
    main()
