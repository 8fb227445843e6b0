"""The report of an evaluation: JSON, CSV (one row a clip; one row a coordinate) and Markdown."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

from odah.evaluation.errors import ANGLES, COLUMNS
from odah.evaluation.summary import MAIN, PERCENTILES, Scored, summarize
from pose2sim_biokin.io.atomic import OutputSet
from pose2sim_biokin.skeleton.angles import CONSTRAINED

# Column -> its name and its digits in Markdown.
_TITLES = {
    "mae_17_deg": ("mean of the 17 constrained angles, deg", 2),
    "mae_24_deg": ("of the 24 compared, deg", 2),
    "mae_26_deg": ("of all 26, deg", 2),
    "pa_mpjpe_mm": ("PA-MPJPE, mm", 1),
    "mpjpe_mm": ("MPJPE, mm", 1),
    "pa_mpjve_mm_s": ("PA-MPJVE, mm/s", 0),
    "angle_speed_deg_s": ("speed of the 17, deg/s", 0),
    "pelvis_mm": ("pelvis, mm", 0),
    "pelvis_deg": ("pelvis, deg", 1),
    "scale": ("scales", 3),
    "segment_mm": ("segment lengths, mm", 1),
    "iou_used": ("mask IoU, used cameras", 3),
    "iou_unused": ("mask IoU, unused cameras", 3),
    "joints_inside": ("joints inside", 3),
}
_GROUPS = {
    "renderer": "Renderers",
    "separation": "Angle between the cameras, degrees",
    "motion": "Motions",
    "subject": "Subjects",
}
Key = tuple[str, str]  # data, method


def by_method(scored: Sequence[Scored]) -> dict[Key, list[Scored]]:
    """Clips of each (data, method), in the order of their first clip."""
    sets: dict[Key, list[Scored]] = {}
    for s in scored:
        sets.setdefault((s.data, s.method), []).append(s)
    return sets


def write_report(folder: Path, scored: Sequence[Scored], about: dict, more: dict | None = None) -> dict:
    """Write evaluation.json, evaluation.md, clips.csv and coordinates.csv, all together; the content of the
    first.

    Args:
        about: what was evaluated: weights, their SHA-256, command.
        more: goes into evaluation.json alone.

    Raises:
        BiokinError: the folder cannot be written.
    """
    sets = by_method(scored)
    summaries = {key: summarize(clips) for key, clips in sets.items()}
    content = {
        **about,
        "sets": [
            {"data": data, "method": method, **summary} for (data, method), summary in summaries.items()
        ],
        **(more or {}),
    }
    with OutputSet() as outputs:
        path = outputs.stage(folder / "evaluation.json")
        path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        path = outputs.stage(folder / "evaluation.md")
        path.write_text(markdown(summaries, about), encoding="utf-8")
        _write_csv(outputs.stage(folder / "clips.csv"), clip_rows(scored))
        _write_csv(outputs.stage(folder / "coordinates.csv"), coordinate_rows(summaries))
        outputs.commit()
    return content


def clip_rows(scored: Sequence[Scored]) -> list[dict]:
    """One row a clip and method: its groups, means, and percentiles of its frames."""
    rows = []
    for s in scored:
        summary = summarize([s])
        labels = {kind: "; ".join(dict.fromkeys(map(str, names))) for kind, names in s.groups.items()}
        percentiles = {f"{MAIN}_{k}": v for k, v in summary["percentiles"][MAIN].items()}
        rows.append(
            {"data": s.data, "clip": s.clip, "method": s.method}
            | {kind: labels.get(kind, "") for kind in _GROUPS}
            | {"frames": s.frames, "frames_missing": summary["frames_missing"]}
            | {column: summary[column] for column in COLUMNS}
            | percentiles
            | {"worst_frame": s.worst_frame}
        )
    return rows


def coordinate_rows(summaries: dict[Key, dict]) -> list[dict]:
    """One row a coordinate, data and method: mean absolute error, and that of the median pose."""
    rows = []
    for (data, method), summary in summaries.items():
        errors = summary["free_deg"] | summary["constrained_deg"]
        baseline = summary.get("mean_pose_baseline_deg", {})
        rows += [
            {
                "data": data,
                "method": method,
                "coordinate": name,
                "mae_deg": errors[name],
                "median_pose_deg": baseline.get(name),
            }
            for name in ANGLES
        ]
    return rows


def markdown(summaries: dict[Key, dict], about: dict) -> str:
    """The report for people."""
    lines = ["# Measured errors", ""]
    lines += [f"- {key.replace('_', ' ')}: {value}" for key, value in about.items() if isinstance(value, str)]
    for f in about.get("not_measured", ()):
        lines.append(f"- **not measured**: {f['data']}, {f['clip']}: {f['reason']}")
    lines += ["", *_main_table(summaries)]
    true = {key: s for key, s in summaries.items() if s["pa_mpjpe_mm"] is not None}  # with a truth
    sections = {title: _group_table(true, kind) for kind, title in _GROUPS.items()}
    sections["Angles, mean absolute error in degrees"] = _angle_table(true) if true else []
    lines += ["", *_percentile_table(true)] if true else []
    for title, table in sections.items():
        lines += ["", f"## {title}", "", *table] if table else []
    for (data, method), summary in true.items():
        if summary["clips"] > 1:
            lines += ["", f"## Worst clips: {method} on {data}", "", "| clip | 17, deg | PA-MPJPE, mm |"]
            lines += ["|---|---|---|"]
            lines += [
                f"| {w['clip']} | {_number(w[MAIN], 1)} | {_number(w['pa_mpjpe_mm'], 0)} |"
                for w in summary["worst_clips"]
            ]
    notes = list(dict.fromkeys(note for summary in summaries.values() for note in summary["notes"]))
    lines += ["", "## Notes", "", *(f"- {note}" for note in (*notes, *_DEFINITIONS)), ""]
    return "\n".join(lines)


_DEFINITIONS = (
    "17 constrained angles: hips, knees, ankles, lumbar joint, elbows, pronation. All 26: pelvis and upper "
    "arms too. 24 compared: all but pronation, which is our reading of the paper: it compares by 24 angles, "
    "but does not list them in the text we had.",
    "MPJPE, PA-MPJPE: mean distance of the joint centres, as they are, and after the similarity transform "
    "that fits each frame best. PA-MPJVE: of the velocities of the latter, from frame to frame.",
    "Percentiles are over frames. The median pose: errors of always answering the median of the truth.",
)


def _main_table(summaries: dict[Key, dict]) -> list[str]:
    shown = [c for c in _TITLES if any(s[c] is not None for s in summaries.values())]
    titles = ["data", "method", "clips", "frames", "without pose", *(_TITLES[c][0] for c in shown)]
    rows = []
    for (data, method), s in summaries.items():
        missing = f"{100 * s['frames_missing'] / s['frames']:.1f} %" if s["frames_missing"] else "0"
        numbers = [_number(s[c], _TITLES[c][1]) for c in shown]
        rows.append([data, method, str(s["clips"]), str(s["frames"]), missing, *numbers])
    return _table(titles, rows)


def _percentile_table(summaries: dict[Key, dict]) -> list[str]:
    rows = []
    for (data, method), s in summaries.items():
        for column in ("mae_17_deg", "pa_mpjpe_mm", "pelvis_mm"):
            values = s["percentiles"][column]
            if values["median"] is not None:
                cells = [_number(values[k], 1) for k in PERCENTILES]
                rows.append([data, method, _TITLES[column][0], *cells])
    return _table(["data", "method", "a frame's", *PERCENTILES], rows)


def _group_table(summaries: dict[Key, dict], kind: str) -> list[str]:
    rows = []
    for (data, method), s in summaries.items():
        for name, g in s["groups"].get(kind, {}).items():
            numbers = [
                _number(g[c], _TITLES[c][1])
                for c in ("mae_17_deg", "pa_mpjpe_mm", "pa_mpjve_mm_s", "pelvis_mm", "pelvis_deg")
            ]
            rows.append([data, method, name, str(g["clips"]), str(g["frames"]), *numbers])
    titles = ["data", "method", "group", "clips", "frames", "17, deg", "PA-MPJPE, mm", "PA-MPJVE, mm/s"]
    return _table([*titles, "pelvis, mm", "pelvis, deg"], rows) if rows else []


def _angle_table(summaries: dict[Key, dict]) -> list[str]:
    titles, columns = ["angle"], []
    for (data, method), s in summaries.items():
        titles.append(f"{method} on {data}")
        columns.append(s["free_deg"] | s["constrained_deg"])
        if "mean_pose_baseline_deg" in s:
            titles.append("median pose")
            columns.append(s["mean_pose_baseline_deg"])
    rows = [
        [name, *(_number(column.get(name), 1) for column in columns)]
        for name in (*CONSTRAINED, *(a for a in ANGLES if a not in CONSTRAINED))
    ]
    return _table(titles, rows)


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(titles)} |",
        "|" + "---|" * len(titles),
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _write_csv(path: Path, rows: list[dict]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in r.items()} for r in rows)
