"""The built-in segmenters: geometry of the masks, choice of weights without a network, folders of masks."""

import time

import cv2
import numpy as np
import pytest

from pose2sim_biokin import segmentation, segmentation_weights
from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.segmentation import MasksFactory, YoloFactory, YoloSegmenter, people_of
from pose2sim_biokin.vision.masks import PersonInstance


def smooth_disc(size, center, radius):
    """Values positive inside a disc, falling off linearly, at pixel centres."""
    y, x = np.mgrid[: size[0], : size[1]]
    return (radius - np.hypot(x - center[0], y - center[1])).astype(np.float32)


def disc_of(x, y, radius, shape):
    v, u = np.mgrid[: shape[0], : shape[1]]
    return np.hypot(u - x, v - y) < radius


def test_coarse_masks_are_enlarged_to_the_right_place():
    """A 1080x1920 frame seen as 45x80 coarse pixels, padded by 1.5 to 48: a disc in closed form."""
    shape, left, zoom = (1920, 1080), 1.5, 24.0
    x, y, radius = 400.0, 1200.0, 300.0
    center = ((x + 0.5) / zoom - 0.5 + left, (y + 0.5) / zoom - 0.5)
    values = smooth_disc((80, 48), center, radius / zoom)
    box = np.array([center[0] + 0.5 - radius / zoom, center[1] + 0.5 - radius / zoom] * 2)
    box[2:] += 2 * radius / zoom
    people = people_of([(values, box, 0.9)], (left, 0.0, 45.0, 80.0), shape)
    truth = disc_of(x, y, radius, shape)
    assert len(people) == 1 and people[0].score == 0.9
    mask = people[0].mask
    assert (mask & truth).sum() / (mask | truth).sum() > 0.985
    moved = np.argwhere(mask).mean(0) - np.argwhere(truth).mean(0)
    assert np.abs(moved).max() < 1.0


def test_specks_and_doubles_are_dropped_and_neighbours_kept():
    big = smooth_disc((80, 80), (25, 40), 12)
    speck = np.maximum(big, smooth_disc((80, 80), (25, 60), 2))
    double = smooth_disc((80, 80), (25, 42), 9)
    other = smooth_disc((80, 80), (60, 40), 10)
    boxes = [np.array(b, float) for b in ((10, 20, 40, 66), (14, 30, 36, 54), (48, 28, 72, 52))]
    logits = [(double, boxes[1], 0.8), (speck, boxes[0], 0.9), (other, boxes[2], 0.7)]
    people = people_of(logits, (0.0, 0.0, 80.0, 80.0), (320, 320))
    assert [p.score for p in people] == [0.9, 0.7]
    assert not people[0].mask[230:].any()
    assert people_of([], (0.0, 0.0, 80.0, 80.0), (320, 320)) == []


@pytest.fixture(scope="module")
def random_weights(tmp_path_factory):
    """An untrained network of YOLO nano size, through ultralytics' own saving."""
    ultralytics = pytest.importorskip("ultralytics")
    model = ultralytics.YOLO("yolo11n-seg.yaml", task="segment", verbose=False)
    model.model.names = {0: "person"} | {i: f"thing {i}" for i in range(1, 80)}
    path = tmp_path_factory.mktemp("weights") / "untrained-seg.pt"
    model.ckpt = {"model": model.model}
    model.save(path)
    return path


def test_the_real_ultralytics_path(random_weights):
    """Untrained, with the threshold at nothing: masks come out in the frame's size, threads stay."""
    import torch

    before = torch.get_num_threads()
    factory = YoloFactory()
    segmenter = factory.load(
        str(random_weights), device="cpu", batch_size=2, project_dir=random_weights.parent
    )
    assert "untrained-seg.pt (given), 640 px" in segmenter.description
    segmenter = YoloSegmenter(random_weights, batch_size=2, image_size=96, confidence=0.0)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (200, 120, 3), dtype=np.uint8) for _ in range(3)]
    people = segmenter.segment(images, "cam", [0, 1, 2])
    assert len(people) == 3 and torch.get_num_threads() == before
    assert any(people)
    for person in (p for frame in people for p in frame):
        assert person.mask.shape == (200, 120) and person.mask.dtype == bool and 0 <= person.score <= 1
    assert segmenter.segment([], "cam", []) == []


class TwoLooks(YoloSegmenter):
    """In place of the network: a square about a disc in a whole frame, the disc itself in a close-up."""

    def __init__(self, largest=None):
        self._size, self._close_up, self._largest = 320, 256, largest or float("inf")
        self.pieces = []

    def _people(self, images, size):
        if size == self._close_up:
            self.pieces = images
            return [[PersonInstance.from_mask(image[..., 0] > 0, 0.3)] for image in images]
        squares = []
        for image in images:
            y0, x0 = np.argwhere(image[..., 0]).min(0)
            y1, x1 = np.argwhere(image[..., 0]).max(0) + 1
            mask = np.zeros(image.shape[:2], bool)
            mask[y0:y1, x0:x1] = True
            squares.append([PersonInstance.from_mask(mask, 0.9)])
        return squares


@pytest.mark.parametrize(("x", "y"), [(300, 200), (30, 380)], ids=["inside", "at the edge"])
def test_small_people_are_looked_at_again(x, y):
    truth = disc_of(x, y, 40, (400, 640))
    image = np.where(truth[..., None], 255, 0).astype(np.uint8).repeat(3, axis=2)
    looks = TwoLooks()
    person = looks.segment([image], "cam", [0])[0][0]
    assert (person.mask == truth).all() and person.score == 0.9
    assert max(looks.pieces[0].shape[:2]) <= 1.35 * 80 + 2


def test_large_people_are_looked_at_again_only_where_the_network_needs_it():
    truth = disc_of(320, 200, 190, (400, 640))
    image = np.where(truth[..., None], 255, 0).astype(np.uint8).repeat(3, axis=2)
    assert TwoLooks().segment([image], "cam", [0])[0][0].mask.sum() > 1.2 * truth.sum()
    assert (TwoLooks(largest=180).segment([image], "cam", [0])[0][0].mask == truth).all()


def test_weights_that_are_none(tmp_path, random_weights):
    broken = tmp_path / "broken.pt"
    broken.write_bytes(b"no weights")
    with pytest.raises(BiokinError, match="broken.pt: these weights cannot be loaded"):
        YoloSegmenter(broken)
    with pytest.raises(BiokinError, match='"missing.pt": no such weights'):
        YoloFactory().load("missing.pt", device="cpu", batch_size=1, project_dir=tmp_path)


def test_auto_without_a_network_takes_the_bundled_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("POSE2SIM_BIOKIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(segmentation_weights.OFFLINE, "1")
    monkeypatch.setattr(segmentation_weights, "bundled_weights", lambda: tmp_path / "bundled.pt")
    assert segmentation_weights.find_weights("auto", tmp_path) == (tmp_path / "bundled.pt", "bundled")
    with pytest.raises(BiokinError, match="yolo11x-seg.pt.*cannot be downloaded"):
        segmentation_weights.find_weights("yolo11x-seg.pt", tmp_path)
    (tmp_path / "cache").mkdir()
    cached = tmp_path / "cache" / segmentation_weights.DOWNLOAD_NAME
    cached.write_bytes(b"x")
    assert segmentation_weights.find_weights("auto", tmp_path) == (cached, "downloaded")
    (tmp_path / "mine.pt").write_bytes(b"x")
    assert segmentation_weights.find_weights("mine.pt", tmp_path) == (tmp_path / "mine.pt", "given")


def test_download_from_a_server_and_from_a_dead_one(tmp_path, monkeypatch):
    """A file:// address stands for the server."""
    monkeypatch.delenv(segmentation_weights.OFFLINE, raising=False)
    monkeypatch.setenv("POSE2SIM_BIOKIN_CACHE", str(tmp_path / "cache"))
    (tmp_path / "w.pt").write_bytes(b"weights")
    path = segmentation_weights.download("w.pt", url=tmp_path.as_uri() + "/")
    assert path.read_bytes() == b"weights" and path.parent == tmp_path / "cache"
    with pytest.raises(OSError):
        segmentation_weights.download("none.pt", url=tmp_path.as_uri() + "/")
    monkeypatch.setattr(segmentation_weights, "_PATIENCE_S", 0.2)

    def silence(*_, **__):
        time.sleep(1)
        raise TimeoutError

    monkeypatch.setattr(segmentation_weights.urllib.request, "urlopen", silence)
    with pytest.raises(OSError, match="no answer"):
        segmentation_weights.download("slow.pt")
    assert list((tmp_path / "cache").iterdir()) == [path]


def test_the_record_of_the_bundled_weights_sets_the_size(tmp_path, monkeypatch):
    (tmp_path / "person_segmenter.json").write_text('{"imgsz": 320, "conf": 0.4}', encoding="utf-8")
    monkeypatch.setattr(segmentation, "bundled_weights", lambda: tmp_path / "person_segmenter.pt")
    monkeypatch.setattr(
        segmentation, "find_weights", lambda spec, folder: (tmp_path / "person_segmenter.pt", "bundled")
    )
    made = {}
    monkeypatch.setattr(segmentation, "YoloSegmenter", lambda path, **k: made.update(k, path=path))
    YoloFactory().load("auto", device="cpu", batch_size=4, project_dir=tmp_path)
    assert made["image_size"] == 320 and made["confidence"] == 0.4 and made["origin"] == "bundled"


def write_mask(path, mask):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imencode(".png", mask)[1].tofile(path)


def test_masks_from_folders(tmp_path):
    truth = disc_of(50, 60, 30, (120, 100))
    masks = tmp_path / "masks"
    write_mask(masks / "Cam01" / "cam01_000007.png", truth.astype(np.uint8) * 255)
    write_mask(masks / "Cam01" / "cam01_000008.png", truth.astype(np.uint8))
    write_mask(masks / "Cam01" / "cam01_000009.png", np.zeros((120, 100), np.uint8))
    write_mask(masks / "Cam01" / "cam01_000010.png", cv2.resize(truth.astype(np.uint8) * 255, (200, 240)))
    segmenter = MasksFactory().load("masks", device="cpu", batch_size=8, project_dir=tmp_path)
    image = np.zeros((120, 100, 3), np.uint8)
    found = segmenter.segment([image] * 5, "cam01", [7, 8, 9, 10, 11])
    assert [len(people) for people in found] == [1, 1, 0, 1, 0]
    np.testing.assert_array_equal(found[0][0].mask, truth)
    np.testing.assert_array_equal(found[1][0].mask, truth)
    assert (found[3][0].mask != truth).mean() < 0.01
    with pytest.raises(BiokinError, match="no masks for camera 'cam02'.*Cam01"):
        segmenter.segment([image], "cam02", [0])
    with pytest.raises(BiokinError, match="100x120 pixels, the video 300x120"):
        segmenter.segment([np.zeros((120, 300, 3), np.uint8)], "cam01", [7])
    with pytest.raises(BiokinError, match="no such folder of masks"):
        MasksFactory().load("elsewhere", device="cpu", batch_size=8, project_dir=tmp_path)
    write_mask(masks / "cam03" / "a.png", np.zeros((5, 5), np.uint8))
    with pytest.raises(BiokinError, match="must end in the frame's number"):
        segmenter.segment([image], "cam03", [0])


def test_masks_from_a_video(tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    writer = cv2.VideoWriter(str(masks / "cam01.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 30, (96, 64))
    for index in range(10):
        frame = np.zeros((64, 96, 3), np.uint8)
        frame[10:50, 5 * index : 5 * index + 20] = 255
        writer.write(frame)
    writer.release()
    segmenter = MasksFactory().load(str(masks), device="cpu", batch_size=8, project_dir=tmp_path)
    image = np.zeros((64, 96, 3), np.uint8)
    for frames in ([2, 3], [5, 9, 10, 12], [0, 1]):
        found = segmenter.segment([image] * len(frames), "cam01", frames)
        for frame, people in zip(frames, found, strict=True):
            assert len(people) == (frame < 10)
            if people:
                assert abs(people[0].box[0] - 5 * frame) <= 1 and abs(people[0].box[2] - 5 * frame - 20) <= 1
