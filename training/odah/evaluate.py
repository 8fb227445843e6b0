"""Measure a checkpoint, and other programs, against a truth.

    odah evaluate CHECKPOINT DATA... --output DIR
    odah evaluate default data/open cache/frames_test --output results
    odah evaluate default --opencap LabValidation_withVideos --bmlmovi MoVi --smplx MODELS --output table1

CHECKPOINT is a .pt file, or "default" for the weights in the package. DATA are

    data sets and clips   of `odah generate`: through the code of `biokin run`, with the clips' masks or, with
                          --segmentation auto, with a segmenter
    crop caches           of `odah crops`: single frames through the encoder, dense windows through everything
    Pose2Sim trials       without a truth: the body is held against the person's masks, also in cameras that
                          the network did not see (--check does it for the others, too)
    folders of results    pairs of .osim and .mot of any program beside a pair named truth (or reference);
                          such pairs in a clip's kinematics folder are measured too

and the releases of OpenCap's laboratory validation and of BMLmovi as they are published
(`odah.evaluation.opencap`, `odah.evaluation.bmlmovi`), with a segmenter.

Writes evaluation.json, evaluation.md, clips.csv (one row a clip), coordinates.csv (one row a coordinate) and
contact sheets of the network's worst clips. What the figures mean: `odah.evaluation.errors`.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from odah.clips import ABOUT
from odah.dataset import ShardSet, find_shards
from odah.datasets import SPLITS, is_dataset
from odah.evaluation.caches import is_cache, score_cache, score_frames, score_windows
from odah.evaluation.cases import Case, read_cases
from odah.evaluation.score import Evaluator, Outcome
from odah.evaluation.sheets import write_sheets
from odah.evaluation.summary import MAIN, Scored, summarize
from odah.evaluation.tables import by_method, markdown, write_report
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.predictor import Predictor


def evaluate_frames(weights: str, folders: Sequence[str | Path], limit: int | None = None) -> dict:
    """Errors of the frame encoder on pairs; see `summarize`."""
    scored = score_frames(Predictor(weights, "cpu"), ShardSet(find_shards(folders)), "frames", weights, limit)
    return summarize(scored)


def evaluate_windows(weights: str, folders: Sequence[str | Path]) -> dict:
    """Errors of the whole predictor on dense windows; see `summarize`."""
    return summarize(
        score_windows(Predictor(weights, "cpu"), ShardSet(find_shards(folders)), "windows", weights)
    )


def report(results: dict[str, dict]) -> str:
    """Summaries by the name of their data, as Markdown."""
    return markdown({(name, "network"): r for name, r in results.items() if isinstance(r, dict)}, {})


def evaluate_cases(
    cases: Sequence[Case], evaluator: Evaluator, log=print
) -> tuple[list[Outcome], list[dict[str, str]]]:
    """Measure cases one after the other; one that cannot be measured does not stop the others.

    Returns:
        What was measured; data, clip and reason of what could not be.
    """
    outcomes, failed = [], []
    for number, case in enumerate(cases, 1):
        try:
            for outcome in evaluator.outcomes(case):
                outcomes.append(outcome)
                figures = ((MAIN, "deg"), ("iou_unused", "IoU in unused cameras"))
                known = [(outcome.scored.mean(column), what) for column, what in figures]
                text = "".join(f", {value:.2f} {what}" for value, what in known if value is not None)
                log(f"{number} of {len(cases)}: {case.data}, {case.name}, {outcome.scored.method}{text}")
        except BiokinError as error:
            failed.append({"data": case.data, "clip": case.name, "reason": str(error)})
            log(f"{number} of {len(cases)}: not measured: {error}")
    return outcomes, failed


def main(arguments: list[str] | None = None) -> int:
    """Command line; see the module docstring."""
    options = _parser().parse_args(arguments)
    if options.weights is not None and options.checkpoint is not None:  # as before there were positions
        options.data.insert(0, options.checkpoint)
    try:
        return _evaluate(options, options.weights or options.checkpoint or "default")
    except BiokinError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _evaluate(options: argparse.Namespace, weights: str) -> int:
    if options.threads:
        torch.set_num_threads(options.threads)
    caches = [Path(d) for d in options.data if is_cache(Path(d))]
    cases = _cases(options, [Path(d) for d in options.data if Path(d) not in caches])
    if not (caches or cases or options.frames or options.windows):
        raise BiokinError("Nothing to evaluate: give DATA, --opencap or --bmlmovi; see odah evaluate --help.")
    predictor = Predictor(weights, options.device)
    method = weights if weights == "default" else Path(weights).stem
    if options.frame_by_frame:
        if predictor.network.refiner is None:
            raise BiokinError(
                f"{weights}: these weights have no refinement that --frame-by-frame could leave out."
            )
        predictor.network.refiner = None
        method += ", frame by frame"
    scored: list[Scored] = []
    for folder in caches:
        scored += score_cache(predictor, [folder], folder.name, method, options.limit)
    if options.frames:
        shards = ShardSet(find_shards(options.frames))
        scored += score_frames(predictor, shards, "frames", method, options.limit)
    if options.windows:
        scored += score_windows(predictor, ShardSet(find_shards(options.windows)), "windows", method)
    outcomes, failed = evaluate_cases(cases, Evaluator(predictor, method, check=options.check))
    scored += [outcome.scored for outcome in outcomes]
    if not scored:
        raise BiokinError(f"Nothing could be measured. {failed[0]['reason']}")
    about = {
        "command": shlex.join(["odah", "evaluate", *(sys.argv[1:])]),
        "weights": str(weights),
        "weights_sha256": predictor.checkpoint.sha256,
        "segmentation": options.segmentation or "masks of clips, auto elsewhere",
        "not_measured": failed,
    }
    if options.output is None:
        print(markdown({key: summarize(clips) for key, clips in by_method(scored).items()}, about))
        return 0
    sets = {key: summarize(clips) for key, clips in by_method(scored).items()}
    # where `odah export --measured` and checkpoints' records have always had them
    known = {name: sets[name, method] for name in ("frames", "windows") if (name, method) in sets}
    content = write_report(options.output, scored, about, known)
    sheets = write_sheets(options.output, outcomes, options.sheets)
    print((options.output / "evaluation.md").read_text(encoding="utf-8"))
    print(f"{len(content['sets'])} sets, {len(sheets)} sheets in {options.output}", file=sys.stderr)
    return 0


def _cases(options: argparse.Namespace, folders: Sequence[Path]) -> list[Case]:
    views = {"views": [v.strip() for v in options.views.split(",")]} if options.views else {}
    films = {"segmentation": options.segmentation or "auto"}
    cases = []
    for folder in folders:
        made_here = is_dataset(folder) or (folder / ABOUT).is_file()
        how = {"segmentation": options.segmentation or "masks"} if made_here else films
        cases += read_cases(folder, options.split, **how, **views)
    if options.opencap is not None:
        from odah.evaluation.opencap import read_opencap

        cases += read_opencap(options.opencap, **({"views": views["views"]} if views else {}), **films)
    if options.bmlmovi is not None:
        from odah.evaluation.bmlmovi import read_bmlmovi

        kept = options.truth or (options.output or Path()) / "truth"
        cases += read_bmlmovi(options.bmlmovi, options.smplx, kept, **films)
    return cases if options.limit is None else cases[: options.limit]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="odah evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", nargs="?", metavar="CHECKPOINT", help='.pt file, or "default"')
    parser.add_argument(
        "data", nargs="*", metavar="DATA", help="data sets, clips, caches, folders of results"
    )
    parser.add_argument("--output", type=Path, help="folder for the report (default: print it)")
    parser.add_argument("--split", choices=SPLITS, default="test", help="of data sets (default test)")
    parser.add_argument(
        "--segmentation", help='as [biokin] segmentation (default "masks" for clips, "auto" for releases)'
    )
    parser.add_argument("--opencap", type=Path, help="folder of OpenCap's LabValidation_withVideos")
    parser.add_argument("--bmlmovi", type=Path, help="folder of BMLmovi's (MoVi's) films and files")
    parser.add_argument("--smplx", type=Path, help="your SMPL-X models, for the truth of BMLmovi")
    parser.add_argument("--truth", type=Path, help="keep BMLmovi's truth here (default: OUTPUT/truth)")
    parser.add_argument("--views", help="two cameras, such as cam01,cam02 (default: the clips' settings)")
    parser.add_argument("--check", action="store_true", help="overlap with the masks, where there is a truth")
    parser.add_argument(
        "--frame-by-frame", action="store_true", help="without the refinement (the paper's Table 3)"
    )
    parser.add_argument("--limit", type=int, help="at most so many single frames of a cache, or clips")
    parser.add_argument("--sheets", type=int, default=8, help="worst clips of a data set drawn (default 8)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--weights", help="the same as CHECKPOINT")
    parser.add_argument("--frames", nargs="*", default=[], help="caches, as single frames whatever they are")
    parser.add_argument("--windows", nargs="*", default=[], help="caches, as dense windows")
    return parser


if __name__ == "__main__":
    sys.exit(main())
