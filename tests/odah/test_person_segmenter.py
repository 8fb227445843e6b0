"""The bundled person segmenter: loads without a network and finds a person that was rendered on the spot."""

from __future__ import annotations

import hashlib
import json
import socket
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch

from odah.bodies.open_body import OpenBody
from odah.segmenter.evaluate_segmenter import iou, predict_masks
from odah.segmenter.render_sprites import sprites_of
from pose2sim_biokin.segmentation import YoloFactory

DATA = files("pose2sim_biokin") / "data"
UNSEEN_SUBJECT = 70_001  # training used the subjects with low seeds


@pytest.fixture(scope="module")
def record() -> dict:
    return json.loads((DATA / "person_segmenter.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def segmenter():
    """The weights, loaded while every connection is refused."""

    def refuse(*_args, **_kwargs):
        raise OSError("no network in this test")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "create_connection", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        patch.setenv("YOLO_OFFLINE", "true")
        bundled = YoloFactory().load("bundled", device="cpu", batch_size=4, project_dir=Path("."))
        assert bundled.model.task == "segment" and bundled.model.names == {0: "person"}
        bundled.segment([np.zeros((64, 64, 3), np.uint8)], "cam01", [0])
        yield bundled


def test_record_belongs_to_the_weights(record):
    weights = (DATA / "person_segmenter.pt").read_bytes()
    assert hashlib.sha256(weights).hexdigest() == record["sha256"]
    assert len(weights) < 8e6
    assert record["imgsz"] % 32 == 0
    assert "AGPL-3.0" in record["licence"]
    assert set(record["held_out"]["per_video"]) == set(record["held_out"]["videos_never_trained_on"])
    assert not set(record["training"]["data"]["real_videos"]) & set(record["held_out"]["per_video"])


def test_finds_rendered_people_it_never_saw(segmenter):
    """Portrait frames, a person about half as high as the picture, in front of a plain wall and floor."""
    with torch.no_grad():
        body = OpenBody("coarse")
        sprites = sprites_of(body, body.sample_subject(UNSEEN_SUBJECT), 4, 256)
    found = []
    for sprite in sprites:
        image = np.full((480, 272, 3), (205, 210, 200), np.uint8)
        image[330:] = (90, 100, 105)
        height, width = sprite.shape[:2]
        width = min(width, 272)
        y, x = 240 - height // 2, 136 - width // 2
        alpha = sprite[:, :width, 3:] / 255.0
        part = image[y : y + height, x : x + width]
        part[:] = np.round(part * (1 - alpha) + sprite[:, :width, :3] * alpha)
        truth = np.zeros(image.shape[:2], bool)
        truth[y : y + height, x : x + width] = alpha[..., 0] > 0.5
        masks = predict_masks(segmenter, [image])[0]
        found.append(max((iou(m, truth) for m in masks), default=0.0))
    assert np.median(found) > 0.7, found
