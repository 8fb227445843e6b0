"""Every pair of the demo's cameras, judged by all of its cameras: those that the network did not see as well.

Pose2Sim's demo (four cameras, 100 frames) is copied into a temporary folder and the person is found in each
view once. Then each pair is predicted, and the scaled body is held against the masks of all four views
(`pose2sim_biokin.check`). Two pairs without a camera in common are two independent answers: how far they are
apart is shown too (needs the training package). With --two-people it is the demo of several people, the two
most present in turn.

    python benchmarks/demo_pairs.py --json pairs.json --sheets sheets
    python benchmarks/demo_pairs.py --two-people --weights runs/fast.pt
    python benchmarks/demo_pairs.py --looked seen --segmentation masks

With --looked, MediaPipe's landmarks judge as well (`mediapipe_views.py`); its masks are used where
--segmentation is "masks".
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
from landmarks import landmark_distances, landmark_summary
from rich.console import Console
from rich.table import Table

from pose2sim_biokin import perception
from pose2sim_biokin.check import Check, check_motion, check_summary, judged_views
from pose2sim_biokin.demo import make_demo
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.project import Trial, View, read_trial
from pose2sim_biokin.meshes import posed_surface
from pose2sim_biokin.motion import Motion
from pose2sim_biokin.overlay import (
    OPACITY,
    draw_figure,
    draw_legend,
    draw_mesh,
    draw_outline,
    mesh_colours,
    stick_figure,
)
from pose2sim_biokin.predictor import Predictor
from pose2sim_biokin.progress import no_progress
from pose2sim_biokin.quality import plain
from pose2sim_biokin.skeleton import Skeleton, load_skeleton
from pose2sim_biokin.vision.masks import PackedMask
from pose2sim_biokin.vision.subject import Subject
from pose2sim_biokin.vision.views import viewing_angle

RECORDINGS = {False: "Demo_SinglePerson", True: "Demo_MultiPerson"}
TILE = (300, 400)  # width and height of a picture of the sheets
MOMENTS = 5  # pictures of each camera
# Of odah.evaluation.errors.COLUMNS.
DIFFERENCES = ("mae_17_deg", "pelvis_deg", "pa_mpjpe_mm", "mpjpe_mm", "pelvis_mm")
Masks = Sequence[dict[int, PackedMask]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--two-people", action="store_true", help="the demo of several people")
    parser.add_argument("--weights", default="default", help="a checkpoint (default: the shipped one)")
    parser.add_argument("--segmentation", default="auto", help="as in [biokin] (default: %(default)s)")
    parser.add_argument("--looked", type=Path, help="folder that mediapipe_views.py wrote")
    parser.add_argument("--pairs", help="some pairs only, like cam01,cam03 cam01,cam04", nargs="*")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--sheets", type=Path, help="write a picture of each pair into this folder")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        project = make_demo(Path(folder) / "demo", recording=RECORDINGS[args.two_people])
        biokin = {"weights": args.weights, "segmentation": args.segmentation}
        if args.looked:
            biokin["masks_dir"] = str((args.looked / "masks").resolve())
        trial = read_trial({"project": {"project_dir": str(project)}, "biokin": biokin})
        results, motions = judge_pairs(trial, args)
    show(results)
    # Of two people, the first is not the same one in every pair.
    apart = [] if args.two_people else disagreements(motions)
    show_disagreements(apart)
    if args.json:
        content = {"pairs": results, "disagreements": apart}
        args.json.write_text(json.dumps(plain(content), indent=1) + "\n", encoding="utf-8")


def judge_pairs(trial: Trial, args: argparse.Namespace) -> tuple[list[dict], dict[tuple[str, str], Motion]]:
    """One entry a pair and person: pair, angle, person, and the check's summary or what went wrong. And the
    motions by pair.
    """
    config, views = trial.config, trial.views
    predictor = Predictor(trial.weights, config.device, config.batch_size, config.seed)
    skeleton = load_skeleton(predictor.skeleton)
    segmenter = perception.load_segmenter(trial, str(predictor.device))
    frames = trial.frames(views)
    people = perception.find_people(views, frames, segmenter, config.batch_size, no_progress)
    if args.segmentation != "masks":
        people, _ = perception.sharpen(views, frames, people, no_progress)
    wanted = [tuple(pair.split(",")) for pair in args.pairs] if args.pairs else None
    results, motions = [], {}
    for i, j in combinations(range(len(views)), 2):
        pair = (views[i], views[j])
        if wanted and (pair[0].name, pair[1].name) not in wanted:
            continue
        others = [view for view in views if view not in pair]
        looked = {view.name: seen for view, seen in zip(views, people, strict=True)}
        left = [people[i], people[j]]
        for person in range(2 if args.two_people else 1):
            entry = {
                "pair": [view.name for view in pair],
                "angle_deg": round(float(viewing_angle(pair[0].camera, pair[1].camera)), 1),
                "person": person + 1,
            }
            results.append(entry)
            try:
                subject = perception.choose_subject(pair, left, frames, trial.fps)
                crops = perception.cut_out(pair, subject, frames, predictor.image_size, no_progress)
                times = np.asarray(frames) / trial.fps
                motion = predictor.predict(crops, times, max_gap_s=config.max_gap_s)
                motions[pair[0].name, pair[1].name] = motion
            except BiokinError as error:
                entry["error"] = str(error)
                break
            elsewhere = perception.people_at(
                others, subject.positions, segmenter, config.batch_size, no_progress, looked
            )
            masks = [*subject.masks, *elsewhere]
            cameras = [view.camera for view in (*pair, *others)]
            judged = judged_views(cameras, masks, frames, entry["pair"])
            check = check_motion(motion, skeleton, trial.fps, judged)
            entry |= {"weights_sha256": motion.info["weights_sha256"]}
            entry |= check_summary(check, np.asarray(frames))
            if args.looked:
                distances = landmark_distances(
                    motion, skeleton, views, np.asarray(frames), args.looked / "landmarks"
                )
                entry["landmarks"] = landmark_summary(distances, entry["pair"])
            if args.sheets:
                args.sheets.mkdir(parents=True, exist_ok=True)
                name = "_".join(entry["pair"]) + (f"_person{person + 1}" if args.two_people else "")
                picture = sheet((*pair, *others), masks, frames, motion, skeleton, check)
                cv2.imwrite(str(args.sheets / f"{name}.png"), picture)
            left = [without(seen, subject, k) for k, seen in enumerate(left)]
    return results, motions


def disagreements(motions: dict[tuple[str, str], Motion]) -> list[dict]:
    """Mean differences between the answers of pairs without a camera in common."""
    from odah.evaluation.errors import frame_errors, pose_skeleton

    found = []
    for (first, one), (second, other) in combinations(motions.items(), 2):
        if set(first) & set(second):
            continue
        skeleton = load_skeleton(one.skeleton)
        posed = [pose_skeleton(skeleton, motion.coordinates, motion.scales) for motion in (one, other)]
        errors = frame_errors(*posed, None)
        means = {name: float(np.nanmean(errors[name])) for name in DIFFERENCES}
        found.append({"pairs": [list(first), list(second)]} | means)
    return found


def show_disagreements(apart: list[dict]) -> None:
    """Their table."""
    table = Table("without a camera in common", *DIFFERENCES, box=None, pad_edge=False)
    for entry in apart:
        pairs = " / ".join("-".join(pair) for pair in entry["pairs"])
        table.add_row(pairs, *(f"{entry[name]:.1f}" for name in DIFFERENCES))
    if apart:
        Console(width=160).print(table)


def without(people: perception.People, subject: Subject, view: int) -> perception.People:
    """People of view 0 or 1 of a pair, without the subject's masks."""
    own = {id(mask) for mask in subject.masks[view].values()}
    return {frame: [p for p in seen if id(p.mask) not in own] for frame, seen in people.items()}


def sheet(
    views: Sequence[View],
    masks: Masks,
    frames: range,
    motion: Motion,
    skeleton: Skeleton,
    check: Check,
) -> np.ndarray:
    """A row of pictures for each camera: surface, skeleton and the mask's outline over the person."""
    figure, mesh = stick_figure(motion, skeleton), posed_surface(motion, skeleton)
    colours = mesh_colours(mesh, "surface")
    posed = np.flatnonzero(np.isfinite(motion.coordinates).all(axis=1))
    rows = posed[np.linspace(0.04, 0.96, MOMENTS).dot(len(posed) - 1).round().astype(int)]
    lines = []
    for view, seen, verdict in zip(views, masks, check.views, strict=True):
        camera = view.camera
        pixels = camera.project(figure.points)
        shown = pixels[rows].reshape(-1, 2)
        low, high = np.nanmin(shown, axis=0), np.nanmax(shown, axis=0)
        scale = min(TILE / ((high - low) * 1.35))
        origin = (low + high) / 2 - np.array(TILE) / 2 / scale
        move = np.array([[scale, 0, -scale * origin[0]], [0, scale, -scale * origin[1]]])
        tiles = []
        for row, (frame, image) in zip(rows, perception.stream(view, [frames[r] for r in rows]), strict=True):
            image = image.copy()
            draw_mesh(image, camera, mesh.vertices(int(row)), mesh.surface.faces, colours, OPACITY["surface"])
            if frame in seen:
                draw_outline(image, seen[frame].unpack())
            tile = cv2.warpAffine(image, move, TILE, flags=cv2.INTER_AREA)
            draw_figure(tile, pixels[row] @ move[:, :2].T + move[:, 2], figure.links)
            kind = "used" if verdict.used else "NOT used"
            iou = float(np.nanmean(verdict.iou)) if len(verdict.iou) else float("nan")
            draw_legend(tile, f"{view.name} {kind} {iou:.2f}", f"frame {frame}")
            tiles.append(tile)
        lines.append(np.hstack(tiles))
    return np.vstack(lines)


def show(results: list[dict]) -> None:
    """The table; m/s and cm, mean over the pairs last."""
    heads = (
        "pair",
        "deg",
        "IoU used",
        "IoU unused",
        "joints used",
        "joints unused",
        "worst limb",
        "sliding m/s",
    )
    table = Table(*heads, "below floor cm", "flips", "jerk m/s3", box=None, pad_edge=False)
    for entry in results:
        label = "-".join(entry["pair"]) + (f" #{entry['person']}" if entry["person"] > 1 else "")
        if "error" in entry:
            table.add_row(label, f"{entry['angle_deg']:.0f}", entry["error"])
            continue
        joints = [
            np.nanmean([v["joints_inside"] for v in entry["views"].values() if v["used"] == used] or [np.nan])
            for used in (True, False)
        ]
        worst = entry["worst_limb"]
        table.add_row(
            label,
            f"{entry['angle_deg']:.0f}",
            *(f"{x:.3f}" for x in (entry["iou_used"], entry["iou_unused"], *joints)),
            f"{worst['limb']} {worst['inside']:.2f} in {worst['camera']}",
            f"{entry['feet']['sliding_m_s']:.2f}",
            f"{100 * entry['feet']['penetration_m_worst']:.1f}",
            str(entry["flips"] + entry["facing_jumps"]),
            f"{entry['jerk_m_s3']:.0f}",
        )
    Console(width=160).print(table)
    done = [entry for entry in results if "error" not in entry]
    for key in ("iou_used", "iou_unused"):
        values = [entry[key] for entry in done]
        print(f"{key}: mean {np.nanmean(values):.3f}, worst {np.nanmin(values):.3f}")
    for key in ("used", "unused"):
        values = [list(entry["landmarks"][key].values()) for entry in done if "landmarks" in entry]
        if values:
            mean, median, p90 = np.mean(values, 0)
            print(f"landmarks {key}: mean {mean:.0f} mm, median {median:.0f} mm, 90 % within {p90:.0f} mm")


if __name__ == "__main__":
    main()
