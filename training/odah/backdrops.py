"""What may stand behind a person, drawn once and kept: ``odah backdrops --output FILE``.

Procedural rooms and, of a folder of photographs without people, pieces (`odah.segmenter.backgrounds`), as one
.npy file (n, S, S, 3) uint8 RGB that training maps into memory. `odah.augment` puts the cached people in
front of them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np

from odah.segmenter.backgrounds import background
from odah.segmenter.composites import read_photographs
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.atomic import OutputSet

_PORTION = 50  # drawn by one call of a worker
_PIECE = (0.5, 1.0)  # of a backdrop's side


class Backdrops:
    """Call it with a side S, a view and a generator: a piece (S, S, 3) uint8 RGB of a backdrop, as it is or
    in a mirror.

    Raises:
        BiokinError: no such file, or not one of backdrops.
    """

    def __init__(self, path: str | Path):
        if not Path(path).is_file():
            raise BiokinError(f"{path}: no such file of backdrops; make one with `odah backdrops`.")
        self._path = Path(path)
        self._pictures = np.load(path, mmap_mode="r")
        if self._pictures.ndim != 4 or self._pictures.shape[3] != 3 or self._pictures.dtype != np.uint8:
            shape = self._pictures.shape
            raise BiokinError(f"{path}: {shape} is no array of pictures (n, S, S, 3); make backdrops again.")

    def __call__(self, size: int, view: int, rng: np.random.Generator) -> np.ndarray:
        picture = self._pictures[int(rng.integers(len(self._pictures)))]
        side = int(len(picture) * rng.uniform(*_PIECE))
        y, x = rng.integers(0, len(picture) - side + 1, 2)
        piece = np.ascontiguousarray(picture[y : y + side, x : x + side][:, :: int(rng.choice([-1, 1]))])
        return cv2.resize(
            piece, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
        )

    def __repr__(self) -> str:
        return f"Backdrops({self._path.name!r}, {self._pictures.shape})"

    def __reduce__(self) -> tuple:
        return Backdrops, (self._path,)  # another process maps the pictures itself

    def still(self, size: int, rng: np.random.Generator) -> StillBackdrops:
        """What two cameras that do not move see behind the person, drawn once."""
        return StillBackdrops((self(size, 0, rng), self(size, 1, rng)))


@dataclass(frozen=True)
class StillBackdrops:
    """Call it like Backdrops: always the picture (S, S, 3) of that view."""

    pictures: tuple[np.ndarray, np.ndarray]

    def __call__(self, size: int, view: int, rng: np.random.Generator) -> np.ndarray:
        return self.pictures[view]


def draw(numbers: Sequence[int], size: int, seed: int, pictures: list[np.ndarray]) -> np.ndarray:
    """Backdrops (n, S, S, 3) uint8 RGB of some numbers; the same of the same seed and pictures."""
    drawn = [background(np.random.default_rng([seed, number]), size, pictures) for number in numbers]
    return np.clip(np.stack(drawn), 0, 255).astype(np.uint8)[..., ::-1]


def write_backdrops(
    output: Path, count: int, size: int, seed: int, photographs: Path | None, workers: int
) -> None:
    """Draw them and write `output` and, beside it, what they are (.json).

    Raises:
        BiokinError: the file is no .npy or is there already; no picture in the folder.
    """
    if output.suffix != ".npy":
        raise BiokinError(f"{output}: backdrops are an array; expected a file name that ends in .npy.")
    if output.exists():
        raise BiokinError(f"{output} exists; name another file, or delete it.")
    pictures = []
    if photographs is not None:
        pictures = read_photographs(photographs)
        if not pictures:
            raise BiokinError(f"{photographs}: no pictures (.jpg, .png) in this folder.")
    portions = [range(first, min(first + _PORTION, count)) for first in range(0, count, _PORTION)]
    with get_context("spawn").Pool(workers, cv2.setNumThreads, (1,)) as pool:
        drawn = pool.map(partial(draw, size=size, seed=seed, pictures=pictures), portions, chunksize=1)
    about = {"count": count, "size": size, "seed": seed, "photographs": len(pictures)}
    output.parent.mkdir(parents=True, exist_ok=True)
    with OutputSet() as outputs:
        with outputs.stage(output).open("wb") as file:
            np.save(file, np.concatenate(drawn))
        outputs.stage(output.with_suffix(".json")).write_text(json.dumps(about, indent=1), encoding="utf-8")
        outputs.commit()


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="odah backdrops", description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="file to write (.npy)")
    parser.add_argument("--count", type=int, default=3000, help="how many (default %(default)s)")
    parser.add_argument("--size", type=int, default=192, help="side, pixels (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="other seed, other backdrops")
    parser.add_argument("--photographs", type=Path, help="folder of pictures without people (optional)")
    parser.add_argument("--workers", type=int, default=1, help="processes (default %(default)s)")
    args = parser.parse_args(arguments)
    try:
        write_backdrops(args.output, args.count, args.size, args.seed, args.photographs, args.workers)
    except BiokinError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
