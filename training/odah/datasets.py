"""A data set: folders of subjects with clips, and a manifest that says how it was made.

    manifest.json
    S0001/clip_0001/ ...      see `odah.clips`
    S0001/clip_0007.rejected.json   why a clip could not be made

The manifest holds the settings, seeds, versions, splits, the SHA-256 of the motion sources and of every
clip's files, and what was rejected: with it and the sources, the same data set can be made again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from odah.clips import Clip, read_about, read_clip, read_files, sha256
from odah.whole import PARTIAL
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.atomic import atomic_path

FORMAT = "odah-dataset-1"
MANIFEST = "manifest.json"
SPLITS = ("train", "val", "test")
REJECTED = ".rejected.json"


@dataclass(frozen=True)
class Dataset:
    """A data set on disk.

    Attributes:
        folder: where it is.
        manifest: see `odah.generation` for its keys.
    """

    folder: Path
    manifest: dict = field(repr=False)

    def names(self, split: str | None = None) -> list[str]:
        """Names of the clips ("S0001/clip_0001") of a split, or of all."""
        if split is not None and split not in SPLITS:
            raise BiokinError(f"split: expected one of {', '.join(SPLITS)}, found {split!r}.")
        clips = self.manifest["clips"]
        return [name for name, entry in clips.items() if split in (None, entry["split"])]

    def clip(self, name: str) -> Clip:
        """A clip by name; raises BiokinError when it is not whole."""
        return read_clip(self.folder / name)


def is_dataset(folder: str | Path) -> bool:
    """The folder has a manifest."""
    return (Path(folder) / MANIFEST).is_file()


def read_dataset(folder: str | Path) -> Dataset:
    """Read a data set's manifest.

    Raises:
        BiokinError: there is none, or it is of another format.
    """
    path = Path(folder) / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BiokinError(
            f"{path}: no readable manifest ({error}). Expected a folder that `odah generate` made; run it "
            "again with the same settings to complete a data set."
        ) from error
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found != FORMAT:
        raise BiokinError(f"{path}: format {found!r}; expected {FORMAT!r}.")
    return Dataset(Path(folder), manifest)


def write_manifest(folder: Path, manifest: dict) -> None:
    """Write the manifest in one step; the same data set gives the same bytes."""
    text = json.dumps({"format": FORMAT, **manifest}, indent=1, allow_nan=False)
    with atomic_path(folder / MANIFEST) as staged:
        staged.write_text(text + "\n", encoding="utf-8", newline="\n")


def clip_entry(folder: Path, name: str, plan: dict) -> dict:
    """What the manifest says of a finished clip: its plan, what was drawn, and its checksums."""
    about = read_about(folder / name)
    kept = ("subject", "motion", "residuals", "rejected", "frames")
    return plan | {key: about[key] for key in kept if key in about} | {"files": read_files(folder / name)}


def write_rejected(folder: Path, name: str, reasons: list[str]) -> None:
    """Note that a clip could not be made, beside where it would be."""
    with atomic_path((folder / name).with_name(Path(name).name + REJECTED)) as staged:
        staged.write_text(json.dumps({"reasons": reasons}, indent=1) + "\n", encoding="utf-8", newline="\n")


def read_rejected(folder: Path, name: str) -> list[str] | None:
    """The reasons why a clip could not be made; None when it was not rejected."""
    path = (folder / name).with_name(Path(name).name + REJECTED)
    if not path.is_file():
        return None
    try:
        return [str(reason) for reason in json.loads(path.read_text(encoding="utf-8"))["reasons"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BiokinError(
            f"{path}: cannot be read ({error}). Delete it and run `odah generate` again."
        ) from error


def verify(folder: str | Path) -> list[str]:
    """What is wrong with a data set: clips and files that are missing, changed or not in the manifest.

    Raises:
        BiokinError: there is no manifest.
    """
    dataset = read_dataset(folder)
    problems = []
    if not dataset.manifest.get("complete"):
        problems.append(f"{MANIFEST}: the data set is not complete; run `odah generate` again to finish it")
    for name, entry in dataset.manifest["clips"].items():
        for file, digest in entry["files"].items():
            path = dataset.folder / name / file
            if not path.is_file():
                problems.append(f"{name}/{file}: missing")
            elif sha256(path) != digest:
                problems.append(f"{name}/{file}: not what was written")
        try:
            if read_files(dataset.folder / name) != entry["files"]:
                problems.append(f"{name}/files.json: other checksums than the manifest's")
        except BiokinError as error:
            if not any(problem.startswith(f"{name}/") for problem in problems):
                problems.append(str(error))
    for path in sorted(dataset.folder.glob("S*/*")):
        name = path.relative_to(dataset.folder).as_posix()
        if path.is_dir() and not path.name.startswith(PARTIAL) and name not in dataset.manifest["clips"]:
            problems.append(f"{name}: not in the manifest")
    return problems
