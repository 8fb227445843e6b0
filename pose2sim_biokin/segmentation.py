"""The segmenters that come with the package: "yolo" (ultralytics) and "masks" (a folder of the user's)."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.hookspecs import hookimpl
from pose2sim_biokin.segmentation_masks import MasksFactory
from pose2sim_biokin.segmentation_weights import bundled_weights, find_weights
from pose2sim_biokin.vision.masks import Box, PersonInstance

_IMAGE_SIZE = 640
_CONFIDENCE = 0.25
_OVERLAP = 0.6
_CLOSE_UP = 384
_SURROUNDINGS = 1.35  # side of a close-up over the longer side of the person's box
_LARGER = 1.3  # a second look must enlarge the person by so much to be worth it
_LOOKED_AT_AGAIN = 3  # people of a frame, the best ones
_SAME_PERSON = 0.4  # least overlap (IoU) of the first and the second mask of one person


@hookimpl
def person_segmenters() -> list:
    """The two built-in segmenters."""
    return [YoloFactory(), MasksFactory()]


class YoloFactory:
    """Makes the ultralytics segmenter."""

    name = "yolo"

    def load(self, spec: str, *, device: str, batch_size: int, project_dir: Path) -> YoloSegmenter:
        """Loads YOLO segmentation weights.

        Args:
            spec: "auto" (or "yolo") for downloaded weights where they can be had and else those bundled with
                the package; "bundled"; the name of ultralytics weights such as "yolo11x-seg.pt"; or a path,
                relative to the trial's folder or to the working directory.
            device: "cpu", "cuda" or "mps".
            batch_size: images the network takes at once.
            project_dir: the trial's folder.

        Raises:
            BiokinError: the weights cannot be found, downloaded or used.
        """
        # nothing leaves the user's machine, and nothing is installed behind their back
        os.environ.setdefault("YOLO_OFFLINE", "true")
        os.environ.setdefault("YOLO_AUTOINSTALL", "false")
        os.environ.setdefault("YOLO_VERBOSE", "false")
        path, origin = find_weights(spec, project_dir)
        record = _bundled_record() if origin == "bundled" else {}
        return YoloSegmenter(
            path,
            device=device,
            batch_size=batch_size,
            image_size=int(record.get("imgsz", _IMAGE_SIZE)),
            confidence=float(record.get("conf", _CONFIDENCE)),
            close_up=int(record.get("close_up", _CLOSE_UP)),
            largest=record.get("largest"),
            origin=origin,
        )


class YoloSegmenter:
    """People by an ultralytics segmentation network.

    Masks are enlarged as the network's smooth values, inside each person's box only, so that full frames cost
    little. People who are small in the frame, or larger than the network knows them, are segmented once more
    in a close-up: masks have a quarter of the resolution at which the network looks.

    Args:
        weights: of the network.
        device: "cpu", "cuda" or "mps".
        batch_size: pictures at once.
        image_size: longer side at which whole frames are looked at, pixels.
        confidence: least score of a person.
        close_up: longer side at which close-ups are looked at, pixels.
        largest: people of more pixels than this, in a whole frame, get a close-up too; None: no limit.
        origin: where the weights are from, for the description.

    Attributes:
        description: weights, where they come from, and the size at which they look at a frame.
    """

    def __init__(
        self,
        weights: Path | str,
        *,
        device: str = "cpu",
        batch_size: int = 8,
        image_size: int = _IMAGE_SIZE,
        confidence: float = _CONFIDENCE,
        close_up: int = _CLOSE_UP,
        largest: int | None = None,
        origin: str = "given",
    ) -> None:
        weights = Path(weights)
        try:
            from ultralytics import YOLO

            self.model = YOLO(str(weights), task="segment", verbose=False)
            names = self.model.names
            heads = self.model.model.model[-1]
        except Exception as error:  # ultralytics and torch raise many kinds for files that are no weights
            raise BiokinError(
                f"{weights}: these weights cannot be loaded by ultralytics ({error}). Expected a YOLO "
                'segmentation network; [biokin] segmentation = "auto" takes one that works.'
            ) from error
        if not hasattr(heads, "proto"):
            raise BiokinError(
                f"{weights}: this network gives no masks ({type(heads).__name__}). Expected a YOLO "
                "segmentation network, such as yolo11n-seg.pt."
            )
        people = [index for index, name in names.items() if str(name).lower() == "person"]
        if not people and len(names) == 1:
            people = list(names)
        if not people:
            raise BiokinError(
                f"{weights}: this network knows no class 'person', only {', '.join(names.values())}."
            )
        self.description = f"{weights.name} ({origin}), {image_size} px"
        self._batch_size = max(1, batch_size)
        self._size, self._close_up = image_size, close_up
        self._largest = float("inf") if largest is None else largest
        self._arguments = {
            "conf": confidence,
            "iou": _OVERLAP,
            "classes": people,
            "device": device,
            "verbose": False,
            "save": False,
        }

    def segment(self, images: list[np.ndarray], camera: str, frames: list[int]) -> list[list[PersonInstance]]:
        """The people in each image (H, W, 3) uint8 BGR, best first."""
        found = self._people(images, self._size)
        again = [
            (i, k, _square_around(person.box, images[i].shape))
            for i, people in enumerate(found)
            for k, person in enumerate(people[:_LOOKED_AT_AGAIN])
            if self._is_worth_a_close_up(person, images[i].shape)
        ]
        pieces = [images[i][y0:y1, x0:x1] for i, _, (x0, y0, x1, y1) in again]
        for (i, k, square), people in zip(again, self._people(pieces, self._close_up), strict=True):
            found[i][k] = _seen_again(found[i][k], people, square)
        return found

    def _is_worth_a_close_up(self, person: PersonInstance, shape: tuple[int, ...]) -> bool:
        x0, y0, x1, y1 = person.box
        pixels = max(x1 - x0, y1 - y0) * self._size / max(shape[:2])
        return pixels > self._largest or self._close_up / _SURROUNDINGS > _LARGER * pixels

    def _people(self, images: list[np.ndarray], size: int) -> list[list[PersonInstance]]:
        """What the network finds in each image, looked at with a longer side of `size`; best first."""
        import torch

        found: list[list[PersonInstance]] = []
        threads = torch.get_num_threads()
        for start in range(0, len(images), self._batch_size):
            batch = images[start : start + self._batch_size]
            small = [_resized(image, size) for image in batch]
            results = self.model.predict(small, predictor=_predictor(), imgsz=size, **self._arguments)
            # ultralytics takes fewer threads for itself, and for everything after it
            torch.set_num_threads(threads)
            for image, result in zip(batch, results, strict=True):
                found.append(people_of(result.logits, result.content, image.shape[:2]))
        return found


def _resized(image: np.ndarray, size: int) -> np.ndarray:
    """The image with a longer side of `size`; averaging keeps thin limbs that sampling would break up."""
    height, width = image.shape[:2]
    scale = size / max(height, width)
    shape = (max(1, round(width * scale)), max(1, round(height * scale)))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.resize(image, shape, interpolation=way)


def people_of(
    logits: list[tuple[np.ndarray, np.ndarray, float]],
    content: tuple[float, float, float, float],
    shape: tuple[int, int],
) -> list[PersonInstance]:
    """People in full size from a network's coarse masks.

    Args:
        logits: for each person (h, w) float32 values, positive on the person, of the padded picture; the box
            x0, y0, x1, y1 in the same coarse pixels, from edge to edge; and the score.
        content: x0, y0, width, height of the picture inside the padded one, in coarse pixels from edge to
            edge.
        shape: height and width of the full picture.
    """
    height, width = shape
    # one coarse pixel more than the box: boxes cut fingers and toes off
    left, top, inner_width, inner_height = content
    zoom_x, zoom_y = width / inner_width, height / inner_height
    people: list[PersonInstance] = []
    for values, box, score in _without_doubles(logits):
        x0, y0 = np.floor((box[:2] - 1 - (left, top)) * (zoom_x, zoom_y)).astype(int)
        x1, y1 = np.ceil((box[2:] + 1 - (left, top)) * (zoom_x, zoom_y)).astype(int)
        x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
        if x1 <= x0 or y1 <= y0:
            continue
        # full pixel i has its centre at (i + 0.5) / zoom + left - 0.5 of the coarse picture
        affine = np.array(
            [
                [1 / zoom_x, 0, (x0 + 0.5) / zoom_x + left - 0.5],
                [0, 1 / zoom_y, (y0 + 0.5) / zoom_y + top - 0.5],
            ]
        )
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        large = cv2.warpAffine(
            values, affine, (x1 - x0, y1 - y0), flags=flags, borderMode=cv2.BORDER_REPLICATE
        )
        mask = np.zeros((height, width), bool)
        mask[y0:y1, x0:x1] = large > 0
        person = PersonInstance.from_mask(mask, score)
        if person is not None:
            people.append(person)
    return people


def _square_around(box: Box, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 of a square about a person's box, cut off at the frame's edges."""
    height, width = shape[:2]
    side = _SURROUNDINGS * max(box[2] - box[0], box[3] - box[1])
    x, y = (box[0] + box[2] - side) / 2, (box[1] + box[3] - side) / 2
    return max(0, round(x)), max(0, round(y)), min(width, round(x + side)), min(height, round(y + side))


def _seen_again(
    person: PersonInstance, people: list[PersonInstance], square: tuple[int, int, int, int]
) -> PersonInstance:
    """The person with the mask of a second look at a square of the frame, if they were found there again."""
    x0, y0, x1, y1 = square
    before = person.mask[y0:y1, x0:x1]
    overlaps = [(p.mask & before).sum() / max((p.mask | before).sum(), 1) for p in people]
    if not overlaps or max(overlaps) < _SAME_PERSON:
        return person
    mask = np.zeros_like(person.mask)
    mask[y0:y1, x0:x1] = people[int(np.argmax(overlaps))].mask
    return PersonInstance.from_mask(mask, person.score) or person


def _bundled_record() -> dict:
    path = bundled_weights().with_suffix(".json")
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


@cache
def _predictor() -> type:
    """Ultralytics' predictor, made to hand out coarse masks instead of full frames."""
    from ultralytics.engine.results import Results
    from ultralytics.models.yolo.segment import SegmentationPredictor

    class CoarseMasks(SegmentationPredictor):
        def construct_result(self, pred, img, orig_img, img_path, proto):
            channels, height, width = proto.shape
            stride = img.shape[2] / height
            values = (pred[:, 6:].float() @ proto.float().reshape(channels, -1)).reshape(-1, height, width)
            boxes = (pred[:, :4].float() / stride).cpu().numpy()
            scores = pred[:, 4].float().cpu().tolist()
            result = Results(orig_img, path=img_path, names=self.model.names, boxes=pred[:, :6])
            result.logits = list(zip(values.cpu().numpy(), boxes, scores, strict=True))
            # the picture lies in the middle of the padded one, rounded as LetterBox rounds
            inner_height, inner_width = orig_img.shape[:2]
            left = round((img.shape[3] - inner_width) / 2 - 0.1)
            top = round((img.shape[2] - inner_height) / 2 - 0.1)
            result.content = tuple(v / stride for v in (left, top, inner_width, inner_height))
            return result

    return CoarseMasks


def _without_doubles(
    logits: list[tuple[np.ndarray, np.ndarray, float]],
) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """Detections best first, without specks, and without those that are mostly part of a better one."""
    cleaned = []
    for values, box, score in logits:
        x0, y0 = np.maximum(np.floor(box[:2]).astype(int) - 1, 0)
        x1, y1 = np.ceil(box[2:]).astype(int) + 1
        values = _largest_part(values, (x0, y0, x1, y1))
        area = int((values[y0:y1, x0:x1] > 0).sum())
        if area:
            cleaned.append((score * np.sqrt(area), values, box, float(score)))
    cleaned.sort(key=lambda item: -item[0])
    kept: list[tuple[np.ndarray, np.ndarray, float]] = []
    for _, values, box, score in cleaned:
        mask = values > 0
        if all((mask & (other > 0)).sum() < 0.7 * min(mask.sum(), (other > 0).sum()) for other, _, _ in kept):
            kept.append((values, box, score))
    return kept


def _largest_part(values: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """Values with what lies outside the box or in parts under a 25th of the largest made negative."""
    x0, y0, x1, y1 = box
    mask = np.zeros(values.shape, np.uint8)
    mask[y0:y1, x0:x1] = values[y0:y1, x0:x1] > 0
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    if count < 2:
        return np.full_like(values, -1.0)
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    small = (areas < 0.04 * areas.max())[labels]
    return np.where(small & (values > 0), -1.0, values).astype(np.float32)
