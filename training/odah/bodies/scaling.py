"""Scale factors from markers, by the conventions of OpenSim's ScaleTool (ModelScaler, "measurements").

A measurement is the mean over marker pairs of the ratio of two distances: in the trial, averaged over its
frames, and in the model in its default pose. It scales bodies along axes; where several measurements scale
the same axis of a body, the last one holds; what none scales keeps the factor one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from odah.motions.measurements import MEASUREMENTS, Measurement, Pair
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.skeleton import ForwardKinematics, Skeleton

# Marker trials of people have no marker on the hand; the mesh has one.
MESH_MEASUREMENTS = (
    *MEASUREMENTS,
    Measurement(
        "hand",
        ("hand_r", "hand_l"),
        "XYZ",
        (tuple((f"{s}{a}", f"{s}MC3") for s in "RL" for a in ("FAradius", "FAulna")),),
    ),
)


def scale_from_markers(
    skeleton: Skeleton,
    names: Sequence[str],
    points: np.ndarray,
    measurements: Sequence[Measurement] = MESH_MEASUREMENTS,
    source: str = "static trial",
) -> np.ndarray:
    """Scale factors (nb, 3) that OpenSim's ScaleTool gives with the same measurements.

    Args:
        skeleton: with markers of the trial's names (`Registration.marker_skeleton` for those of a mesh).
        names: n markers of the trial.
        points: (n,3) or (T,n,3) m, in any frame.
        measurements: what is compared; see `odah.motions.measurements`.
        source: what the trial is called in messages.

    Raises:
        BiokinError: a measurement has no pair of markers in trial and model, or a distance is not finite or
            is zero.
    """
    points = np.asarray(points, dtype=np.float64).reshape(-1, len(names), 3)
    trial = dict(zip(names, points.transpose(1, 0, 2), strict=True))
    model = dict(zip(skeleton.marker_names, _default_markers(skeleton), strict=True))
    known = [name for name in names if name in model]
    scales = np.ones((len(skeleton.body_names), 3))
    for measurement in measurements:
        pairs = measurement.pairs(known)
        if not pairs:
            wanted = ", ".join("-".join(pair) for pair in measurement.alternatives[0])
            raise BiokinError(
                f"{source}: cannot measure {measurement.name}; expected markers {wanted} in trial and model, "
                f"found {', '.join(known[:8]) or 'none'}."
            )
        ratios = [_distance(trial, pair) / _distance(model, pair) for pair in pairs]
        factor = float(np.mean(ratios))
        if not np.isfinite(factor) or factor <= 0:
            raise BiokinError(
                f"{source}: {measurement.name} comes out as {factor}; expected finite markers that do not "
                f"coincide: {', '.join('-'.join(pair) for pair in pairs)}."
            )
        axes = ["XYZ".index(axis) for axis in measurement.axes]
        for body in measurement.bodies:
            if body in skeleton.body_names:
                scales[skeleton.body_index(body), axes] = factor
    return scales


def _default_markers(skeleton: Skeleton) -> np.ndarray:
    """(nm,1,3) markers of the unscaled model in its default pose, m."""
    kinematics = ForwardKinematics(skeleton, dtype=torch.float64)
    q = kinematics.constrain(torch.as_tensor(np.array(skeleton.coordinate_defaults)))
    return kinematics.markers(kinematics(q)).numpy()[:, None]


def _distance(points: dict[str, np.ndarray], pair: Pair) -> float:
    """Mean distance over frames of two markers."""
    first, second = (points[name] for name in pair)
    return float(np.linalg.norm(first - second, axis=-1).mean())
