"""Marker trials through OpenSim's own ScaleTool and InverseKinematicsTool.

OpenSim's tools speak files: they run in a temporary folder and a process of their own, see `run_opensim`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import numpy as np
import torch

from odah.motions.measurements import MEASUREMENTS, chosen_pairs, with_joint_centers
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.mot import read_mot
from pose2sim_biokin.io.osim import write_osim
from pose2sim_biokin.io.trc import MarkerTable, write_trc
from pose2sim_biokin.skeleton.angles import FREE, TRANSLATIONS
from pose2sim_biokin.skeleton.model import Skeleton
from pose2sim_biokin.skeleton.rotations import euler_axes, euler_to_matrix, matrix_to_angles_continuous

# A clip whose markers end further than this from the model's is not its motion (m, RMS over the clip).
MARKER_LIMIT_M = 0.030
# Weights of the markers in inverse kinematics: bony landmarks of pelvis and joints hold the segments; joint
# centres come out of regressions that hold in any pose.
WEIGHTS = {"ASI": 10.0, "PSI": 10.0, "HJC": 10.0, "KJC": 10.0, "AJC": 10.0, "SJC": 5.0, "EJC": 5.0}
_STATIC_SECONDS = 0.5
# OpenSim's default of 1e-5 stops early where a joint is at the end of its range: with perfect markers a
# forearm was 16 degrees off, and 1.7 with this.
_ACCURACY = "1e-07"
# Pose, in rad, in which OpenSim's search begins: no joint at the end of its range.
_START = {"knee_angle": 0.1, "elbow_flex": 0.4, "pro_sup": 0.8, "arm_add": -0.3}


@dataclass(frozen=True)
class MarkerFit:
    """A motion that OpenSim's tools found in a marker trial.

    Attributes:
        time: (T,) s.
        coordinates: (T, nc) rad and m, in the skeleton's order.
        scales: (nb, 3) factors that ScaleTool measured.
        marker_names: the markers that were used.
        frame_rms_m: (T,) RMS distance of the markers from the model's in each frame, m.
    """

    time: np.ndarray
    coordinates: np.ndarray
    scales: np.ndarray
    marker_names: tuple[str, ...]
    frame_rms_m: np.ndarray

    @property
    def marker_rms_m(self) -> float:
        """RMS distance of the markers from the model's over the clip, m."""
        return float(np.sqrt(np.mean(self.frame_rms_m**2)))


def scale_and_solve(
    trial: MarkerTable,
    skeleton: Skeleton,
    static: MarkerTable | None = None,
    *,
    weights: Mapping[str, float] | None = None,
    place_markers: bool = True,
    source: str = "marker trial",
) -> MarkerFit:
    """Scale the skeleton to a static trial, then inverse kinematics of a trial.

    Args:
        trial: markers (T, n, 3) m in ground axes (Y up); NaN where one was not seen. Markers that the
            skeleton does not have are left out.
        static: the person standing upright, arms anywhere; the trial's first half second when absent.
        weights: of markers, by name or by name without the side's R or L; WEIGHTS, else 1.
        place_markers: let OpenSim's MarkerPlacer move the scaled model's markers onto the static trial's.
        source: what the trial is called in messages.

    Raises:
        BiokinError: too few markers, or OpenSim's tools fail.
    """
    trial = _of_skeleton(trial, skeleton, source)
    static = _first_frames(trial) if static is None else _of_skeleton(static, skeleton, f"{source} (static)")
    if len(trial.time) < 2:
        raise BiokinError(f"{source}: {len(trial.time)} frames with markers; expected at least 2.")
    names = tuple(n for n in trial.names if n in static.names)
    static_yaw, yaw = _facing(static, source), _facing(trial, source)
    static_names, points = with_joint_centers(static.names, _turned(static.points, -static_yaw))
    static = static._replace(names=static_names, points=points)
    trial = trial._replace(points=_turned(trial.points, -yaw))
    pairs = chosen_pairs(static_names, source)
    with tempfile.TemporaryDirectory(prefix="odah-opensim-") as name:
        folder = Path(name)
        _write_model(folder / "generic.osim", skeleton)
        rate = _rate(trial.time)
        write_trc(folder / "static.trc", _at_rate(static, rate), rate)
        write_trc(folder / "trial.trc", trial, rate)
        tasks = _tasks(names, {**WEIGHTS, **(weights or {})})
        times = " ".join(f"{t:.9g}" for t in _at_rate(static, rate).time[[0, -1]])
        (folder / "scale.xml").write_text(_scale_setup(pairs, skeleton, times), encoding="utf-8")
        if place_markers:
            standing = _at_rate(static, rate).time
            (folder / "static.xml").write_text(_ik_setup("static", tasks, standing), encoding="utf-8")
            (folder / "place.xml").write_text(_place_setup(tasks, skeleton, times), encoding="utf-8")
        model = "placed.osim" if place_markers else "scaled.osim"
        (folder / "trial.xml").write_text(_ik_setup("trial", tasks, trial.time, model), encoding="utf-8")
        try:
            _run(folder)
            scales = _read_scales(folder / "factors.xml", skeleton)
            table = read_mot(folder / "trial.mot", skeleton)
            errors = _read_errors(folder / "trial_ik_marker_errors.sto")
        except (BiokinError, OSError, ValueError) as error:
            raise BiokinError(f"{source}: OpenSim's tools failed ({str(error).strip()}).") from error
    order = [table.names.index(n) for n in skeleton.coordinate_names]
    coordinates = turned_coordinates(table.coordinates[:, order], skeleton, yaw)
    return MarkerFit(table.time, coordinates, scales, names, errors)


def turned_coordinates(coordinates: np.ndarray, skeleton: Skeleton, yaw: float) -> np.ndarray:
    """Coordinates (T, nc) of the same motion turned by ``yaw`` (rad) about the vertical of ground."""
    q = coordinates.copy()
    first = skeleton.coordinate_index("pelvis_tilt")
    turn = torch.from_numpy(_about_y(yaw))
    pelvis = turn @ euler_to_matrix(torch.from_numpy(q[:, first : first + 3].copy()), "zxy")
    angles = matrix_to_angles_continuous(pelvis, euler_axes("zxy", pelvis.dtype))
    q[:, first : first + 3] = angles.numpy()
    at = [skeleton.coordinate_index(n) for n in TRANSLATIONS]
    q[:, at] = q[:, at] @ _about_y(yaw).T
    return q


def _of_skeleton(table: MarkerTable, skeleton: Skeleton, source: str) -> MarkerTable:
    kept = [i for i, n in enumerate(table.names) if n in skeleton.marker_names]
    kept = [i for i in kept if np.isfinite(table.points[:, i]).all(-1).any()]
    pelvis = {"RASI", "LASI", "RPSI", "LPSI"} & {table.names[i] for i in kept}
    if len(pelvis) < 3:
        raise BiokinError(
            f"{source}: {len(kept)} of its {len(table.names)} markers are the skeleton's, and {len(pelvis)} "
            f"of the pelvis (RASI, LASI, RPSI, LPSI; expected at least 3). Found: "
            f"{', '.join(table.names[:12]) or 'none'}. Give a name map from the trial's names to the "
            "skeleton's."
        )
    return table._replace(names=tuple(table.names[i] for i in kept), points=table.points[:, kept])


def _first_frames(table: MarkerTable) -> MarkerTable:
    """The first half second, from the first frame in which every marker is seen."""
    whole = np.isfinite(table.points).all((1, 2))
    first = int(np.argmax(whole)) if whole.any() else 0
    kept = np.flatnonzero(table.time - table.time[first] <= _STATIC_SECONDS)
    kept = kept[kept >= first]
    return table._replace(frames=table.frames[kept], time=table.time[kept], points=table.points[kept])


def _at_rate(table: MarkerTable, rate: float) -> MarkerTable:
    """At least ten frames, counted from zero: OpenSim lays a spline through them."""
    points = np.repeat(table.points, -(-10 // len(table.points)), axis=0)
    count = len(points)
    return table._replace(frames=np.arange(1, count + 1), time=np.arange(count) / rate, points=points)


def _rate(time: np.ndarray) -> float:
    return float((len(time) - 1) / (time[-1] - time[0]))


def _facing(table: MarkerTable, source: str) -> float:
    """Direction (rad about the vertical) that the pelvis faces in the first frame that shows it."""
    at = {n: i for i, n in enumerate(table.names)}
    used = [at[n] for n in ("RASI", "LASI", "RPSI", "LPSI") if n in at]
    whole = np.flatnonzero(np.isfinite(table.points[:, used]).all((1, 2)))
    if not len(whole):
        raise BiokinError(f"{source}: no frame shows all of its pelvis markers; expected at least one.")
    p = {n: table.points[whole[0], i] for n, i in at.items()}
    right = p["RASI"] - p["LASI"] if {"RASI", "LASI"} <= p.keys() else p["RPSI"] - p["LPSI"]
    # a pelvis that faces X has its right side along Z; turning it by yaw about Y takes Z to (sin, 0, cos)
    return float(np.arctan2(right[0], right[2]))


def _about_y(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def _turned(points: np.ndarray, yaw: float) -> np.ndarray:
    return points @ _about_y(yaw).T


def _run(folder: Path) -> None:
    """Both tools, in a process of their own: see `run_opensim`."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("run_opensim.py")), str(folder)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode:
        said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise BiokinError("; ".join(said[-3:]) or f"they ended with code {done.returncode}")


def _write_model(path: Path, skeleton: Skeleton) -> None:
    """The unscaled skeleton; pelvis and shoulders may turn beyond their nominal ranges."""
    import opensim

    write_osim(path, skeleton)
    model = opensim.Model(str(path))
    coordinates = model.updCoordinateSet()
    for name in (*FREE, *TRANSLATIONS):
        if name in skeleton.coordinate_names:
            coordinates.get(name).setDefaultClamped(False)
    # the search starts in this pose: on a bound it would often stay there
    for name, value in _START.items():
        for full in (name, f"{name}_r", f"{name}_l"):
            if full in skeleton.coordinate_names:
                coordinates.get(full).setDefaultValue(value)
    model.finalizeConnections()
    model.printToXML(str(path))


def _tasks(names: tuple[str, ...], weights: Mapping[str, float]) -> str:
    rows = []
    for name in names:
        weight = weights.get(name, weights.get(name[1:], 1.0))
        rows.append(
            f'<IKMarkerTask name="{escape(name)}"><apply>true</apply><weight>{weight:g}</weight>'
            "</IKMarkerTask>"
        )
    return f"<IKTaskSet><objects>{''.join(rows)}</objects></IKTaskSet>"


def _scale_setup(pairs: Mapping[str, tuple], skeleton: Skeleton, times: str) -> str:
    rows = []
    for measurement in MEASUREMENTS:
        marker_pairs = "".join(
            f"<MarkerPair><markers>{a} {b}</markers></MarkerPair>" for a, b in pairs[measurement.name]
        )
        axes = " ".join(measurement.axes)
        bodies = "".join(
            f'<BodyScale name="{body}"><axes>{axes}</axes></BodyScale>'
            for body in measurement.bodies
            if body in skeleton.body_names
        )
        rows.append(
            f'<Measurement name="{measurement.name}"><apply>true</apply>'
            f"<MarkerPairSet><objects>{marker_pairs}</objects></MarkerPairSet>"
            f"<BodyScaleSet><objects>{bodies}</objects></BodyScaleSet></Measurement>"
        )
    return f"""<?xml version="1.0" encoding="UTF-8" ?>
<OpenSimDocument Version="40000"><ScaleTool name="subject"><mass>-1</mass>
<GenericModelMaker><model_file>generic.osim</model_file></GenericModelMaker>
<ModelScaler><apply>true</apply><scaling_order>measurements</scaling_order>
<MeasurementSet><objects>{"".join(rows)}</objects></MeasurementSet>
<marker_file>static.trc</marker_file><time_range>{times}</time_range>
<preserve_mass_distribution>true</preserve_mass_distribution>
<output_model_file>scaled.osim</output_model_file>
<output_scale_file>factors.xml</output_scale_file></ModelScaler>
<MarkerPlacer><apply>false</apply></MarkerPlacer></ScaleTool></OpenSimDocument>"""


def _place_setup(tasks: str, skeleton: Skeleton, times: str) -> str:
    """MarkerPlacer in the pose that inverse kinematics found: its own search stops early, see _ACCURACY."""
    pose = "".join(
        f'<IKCoordinateTask name="{name}"><apply>true</apply><weight>100</weight>'
        "<value_type>from_file</value_type></IKCoordinateTask>"
        for name, locked in zip(skeleton.coordinate_names, skeleton.locked, strict=True)
        if not locked
    )
    tasks = tasks.replace("</objects>", pose + "</objects>")
    return f"""<?xml version="1.0" encoding="UTF-8" ?>
<OpenSimDocument Version="40000"><ScaleTool name="subject"><mass>-1</mass>
<GenericModelMaker><model_file>scaled.osim</model_file></GenericModelMaker>
<ModelScaler><apply>false</apply></ModelScaler>
<MarkerPlacer><apply>true</apply>{tasks}<marker_file>static.trc</marker_file>
<coordinate_file>static.mot</coordinate_file><time_range>{times}</time_range>
<output_model_file>placed.osim</output_model_file><max_marker_movement>-1</max_marker_movement>
</MarkerPlacer></ScaleTool></OpenSimDocument>"""


def _ik_setup(name: str, tasks: str, time: np.ndarray, model: str = "scaled.osim") -> str:
    return f"""<?xml version="1.0" encoding="UTF-8" ?>
<OpenSimDocument Version="40000"><InverseKinematicsTool name="{name}">
<results_directory>./</results_directory><model_file>{model}</model_file>
<constraint_weight>Inf</constraint_weight><accuracy>{_ACCURACY}</accuracy>{tasks}
<marker_file>{name}.trc</marker_file><coordinate_file>Unassigned</coordinate_file>
<time_range>{time[0]:.9g} {time[-1]:.9g}</time_range><report_errors>true</report_errors>
<output_motion_file>{name}.mot</output_motion_file></InverseKinematicsTool></OpenSimDocument>"""


def _read_scales(path: Path, skeleton: Skeleton) -> np.ndarray:
    """(nb, 3) factors of a ScaleSet file; ones for bodies that it leaves out."""
    scales = np.ones((len(skeleton.body_names), 3))
    for scale in ElementTree.parse(path).iter("Scale"):
        body = scale.findtext("segment", "").strip()
        if body in skeleton.body_names:
            scales[skeleton.body_index(body)] = [float(v) for v in scale.findtext("scales", "").split()]
    if not np.isfinite(scales).all() or scales.min() < 0.3 or scales.max() > 3.0:
        body = skeleton.body_names[int(np.abs(np.log(np.abs(scales) + 1e-9)).max(1).argmax())]
        raise BiokinError(
            f"scale factors from {scales.min():.2f} to {scales.max():.2f} ({body}); expected 0.3 to 3: are "
            "the markers swapped, or in other units?"
        )
    return scales


def _read_errors(path: Path) -> np.ndarray:
    """(T,) marker_error_RMS of the report that the tool writes, m."""
    lines = path.read_text(encoding="utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.strip() == "endheader") + 1
    column = lines[start].split("\t").index("marker_error_RMS")
    return np.array([float(line.split("\t")[column]) for line in lines[start + 1 :] if line.strip()])
