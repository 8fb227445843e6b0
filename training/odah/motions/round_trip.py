"""A motion performed by a mesh, seen through its virtual markers by OpenSim's tools: do the angles come back?

python -m odah.motions.round_trip SOURCE [--clip NAME] [--seconds 2] [--seed 3]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np
import torch

from odah.motions.clips import FPS, Recording, window
from odah.motions.opensim_tools import MarkerFit, scale_and_solve
from odah.motions.tracks import Tracks
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.trc import MarkerTable
from pose2sim_biokin.skeleton.angles import CONSTRAINED, FREE

_FPS = 20.0


def round_trip(recording: Recording, body, seed: int, seconds: float) -> tuple[MarkerFit, dict[str, float]]:
    """OpenSim's fit of the mesh's markers, and the mean absolute error of each angle, degrees.

    Angles of free joints, of which several sets mean the same, are first put into one form.
    """
    from odah.bodies.registration import load_registration

    skeleton, registration = body.skeleton, load_registration(body)
    count = min(round(seconds * _FPS), int((recording.tracks.frames - 1) * _FPS / FPS) + 1)
    q = window(recording, 0.0, count, FPS / _FPS).coordinates(skeleton)
    subject = body.sample_subject(seed)
    tables = []
    for vertices in (body.pose(subject, torch.as_tensor(q).float()), subject.vertices[None]):
        names, points = registration.virtual_markers(vertices)
        frames = np.arange(len(points))
        tables.append(MarkerTable(frames + 1, frames / _FPS, names, points.double().numpy()))
    fit = scale_and_solve(
        tables[0],
        registration.marker_skeleton(skeleton),
        tables[1],
        place_markers=False,
        source=recording.name,
    )
    found, truth = (Tracks.from_coordinates(x, skeleton).coordinates(skeleton) for x in (fit.coordinates, q))
    error = np.degrees(np.abs((found - truth + np.pi) % (2 * np.pi) - np.pi)).mean(0)
    names = [n for n in skeleton.coordinate_names if n in (*FREE, *CONSTRAINED)]
    return fit, {name: float(error[skeleton.coordinate_index(name)]) for name in names}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the errors; exit code 1 when they are over 3 degrees on average."""
    from odah.bodies.body import load_body
    from odah.motions.sources import read_motion_source

    parser = argparse.ArgumentParser(
        prog="python -m odah.motions.round_trip", description=__doc__.split("\n")[0]
    )
    parser.add_argument("source", help="file or folder of motion, see odah.motions.sources")
    parser.add_argument(
        "--clip", default="", help="part of the name of the recordings to take; the first of each"
    )
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=3, help="subject")
    options = parser.parse_args(arguments)
    try:
        body = load_body("open")
        recordings = read_motion_source(options.source, body.skeleton)
        chosen = next((r for r in recordings if options.clip in r.name), None)
        if chosen is None:
            raise BiokinError(f"{options.source}: no recording has {options.clip!r} in its name.")
        fit, errors = round_trip(chosen, body, options.seed, options.seconds)
    except BiokinError as error:
        print(error, file=sys.stderr)
        return 2
    mean = float(np.mean(list(errors.values())))
    print(f"{chosen.name}: {len(fit.time)} frames, marker RMS {1000 * fit.marker_rms_m:.1f} mm")
    for name, value in errors.items():
        print(f"  {name:20} {value:5.1f} deg")
    print(f"  {'mean':20} {mean:5.1f} deg")
    return int(mean > 3.0)


if __name__ == "__main__":
    raise SystemExit(main())
