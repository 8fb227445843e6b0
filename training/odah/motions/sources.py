"""Any source of motion, read into recordings; and from the command line into one archive that reads fast.

    python -m odah.motions.sources SOURCE [SOURCE ...] --output motions.npz [--model-folder DIR]

A source is an archive of clips (.npz with ``coordinates``, see `clips`), a motion file or a folder of them
(.mot, .sto), an AMASS file (.npz with ``poses``), a marker trial (.c3d, .trc), or a folder with any of these.
Marker trials and AMASS files go through OpenSim's inverse kinematics, which takes longer than the motion
lasts: convert them once.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from odah.motions import marker_trials, mot_folder
from odah.motions.clips import FPS, Recording, read_clips, write_clips
from odah.motions.mot_folder import Rejection
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.skeleton.model import Skeleton

_log = logging.getLogger(__name__)


def read_motion_source(
    spec: str | Path,
    skeleton: Skeleton,
    *,
    shortest: int = 32,
    model_folder: Path | None = None,
    name_map: Mapping[str, str] | None = None,
    up: str | None = None,
    report: list[Rejection] | None = None,
) -> list[Recording]:
    """Recordings at 60 Hz, of at least ``shortest`` frames, of a file or of everything in a folder.

    Args:
        spec: see the module's docstring.
        model_folder: the folder with the user's SMPL-X models, for AMASS files.
        name_map, up: for marker trials, see `marker_trials.read_markers`. In a folder, a trial whose name has
            "static" in it scales the others of the same folder.
        report: parts that are not used are added here, with reasons; they are logged in any case.

    Raises:
        BiokinError: the source is missing, is none of these, cannot be read, or has nothing that can be used.
    """
    path = Path(spec)
    known = [] if report is None else report
    before = len(known)
    if not path.exists():
        raise BiokinError(f"{path}: no such file or folder; expected a source of motion.")
    files = _files(path)
    recordings: list[Recording] = []
    motions = [f for f in files if f.suffix.lower() in mot_folder.SUFFIXES]
    if motions:
        options = {"shortest": shortest}
        if path.is_dir():
            recordings += mot_folder.read_mot_folder(path, skeleton, known, **options)
        else:
            recordings += mot_folder.read_mot_file(path, skeleton, known, **options)
    trials = [f for f in files if f.suffix.lower() in marker_trials.SUFFIXES]
    for file in trials:
        static = next((f for f in trials if f.parent == file.parent and _is_static(f)), None)
        if file == static and len(trials) > 1:
            continue
        recordings += marker_trials.read_marker_trial(
            file,
            skeleton,
            known,
            static,
            group=_group(path, file),
            name_map=name_map,
            up=up,
            shortest=shortest,
        )
    for file in (f for f in files if f.suffix.lower() == ".npz"):
        recordings += _read_npz(file, path, skeleton, shortest, model_folder, known)
    for rejection in known[before:]:
        _log.warning("%s: %s", rejection.name, rejection.reason)
    if not recordings:
        reasons = "; ".join(f"{r.name}: {r.reason}" for r in known[before : before + 3])
        raise BiokinError(f"{path}: nothing in it can be used ({reasons or 'no motion found'}).")
    return recordings


def _files(path: Path) -> list[Path]:
    suffixes = (*mot_folder.SUFFIXES, *marker_trials.SUFFIXES, ".npz")
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() in suffixes and p.is_file())
    else:
        files = [path] if path.suffix.lower() in suffixes else []
    if not files:
        raise BiokinError(f"{path}: no source of motion in it; expected {', '.join(suffixes)}.")
    return files


def _is_static(path: Path) -> bool:
    return "static" in path.stem.lower()


def _group(source: Path, file: Path) -> str:
    """What lies in one folder was recorded together."""
    if file == source:
        return file.parent.as_posix()
    return (Path(source.name) / file.relative_to(source).parent).as_posix()


def _read_npz(
    file: Path,
    source: Path,
    skeleton: Skeleton,
    shortest: int,
    model_folder: Path | None,
    report: list[Rejection],
) -> list[Recording]:
    try:
        with np.load(file, allow_pickle=False) as archive:
            keys = set(archive.files)
    except (OSError, ValueError, EOFError) as error:
        raise BiokinError(f"{file}: cannot be read as an .npz file ({error}).") from error
    if "coordinates" in keys:
        return read_clips(file, skeleton, shortest)
    if file.stem.lower() in ("shape", "neutral_stagei", "male_stagei", "female_stagei"):
        return []  # AMASS keeps a subject's shape beside the motions
    from odah.motions import amass

    return amass.read_amass(
        file, skeleton, model_folder, report=report, group=_group(source, file), shortest=shortest
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Convert sources into one archive of clips."""
    from pose2sim_biokin.skeleton.model import load_skeleton

    purpose = __doc__.split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m odah.motions.sources", description=purpose)
    parser.add_argument("sources", nargs="+", help="motion files or folders: .mot .sto .npz .c3d .trc")
    parser.add_argument("--output", type=Path, required=True, help="archive to write, .npz")
    parser.add_argument("--model-folder", type=Path, help="folder with SMPL-X models, for AMASS files")
    parser.add_argument("--up", help="axis of marker trials that points up: X, Y or Z")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.ERROR)
    skeleton = load_skeleton()
    report: list[Rejection] = []
    recordings: list[Recording] = []
    try:
        for source in options.sources:
            recordings += read_motion_source(
                source, skeleton, model_folder=options.model_folder, up=options.up, report=report
            )
        write_clips(options.output, recordings, skeleton)
    except BiokinError as error:
        print(error, file=sys.stderr)
        return 1
    seconds = sum(r.tracks.frames for r in recordings) / FPS
    for rejection in report:
        print(f"not used: {rejection.name}: {rejection.reason}")
    print(f"{options.output}: {len(recordings)} recordings, {seconds:.0f} s at {FPS:g} Hz")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
