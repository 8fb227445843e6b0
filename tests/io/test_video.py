"""Videos: frame numbers, ranges, folders of images, damaged files, and what is written can be read."""

import cv2
import numpy as np
import pytest

from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io.video import VideoReader, VideoWriter, list_videos


def numbered(index, size=(96, 64)):
    """A frame that says its number in binary: eight bars, white for 1, that survive any codec."""
    frame = np.full((size[1], size[0], 3), 30, np.uint8)
    for bit in range(8):
        frame[:, 12 * bit : 12 * bit + 12] = 220 if index >> bit & 1 else 30
    return frame


def number(frame):
    return sum(1 << bit for bit in range(8) if frame[:, 12 * bit + 3 : 12 * bit + 9].mean() > 125)


def make_video(path, count=90, fourcc="mp4v", fps=50, size=(96, 64)):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*fourcc), fps, size)
    assert writer.isOpened()
    for index in range(count):
        writer.write(numbered(index, size))
    writer.release()
    return path


@pytest.mark.parametrize(
    ("name", "fourcc"), [("a.mp4", "mp4v"), ("a.avi", "MJPG"), ("a.mkv", "mp4v"), ("a.mov", "mp4v")]
)
def test_frames_come_by_their_number(tmp_path, name, fourcc):
    reader = VideoReader(make_video(tmp_path / name, fourcc=fourcc))
    info = reader.info
    assert (info.width, info.height, info.fps, info.frame_count) == (96, 64, 50, 90)
    seen = [(i, number(frame)) for i, frame in reader.frames()]
    assert seen == [(i, i) for i in range(90)]
    for indexes in (range(70, 80), range(0, 90, 13), [3, 4, 88], [89], []):
        assert [(i, number(f)) for i, f in reader.frames(indexes)] == [(i, i) for i in indexes]


def test_image_folders_in_natural_order(tmp_path):
    folder = tmp_path / "videos" / "cam é"
    folder.mkdir(parents=True)
    for index in range(12):
        cv2.imencode(".png", numbered(index))[1].tofile(folder / f"img{index}.png")
    make_video(tmp_path / "videos" / "cam1.mp4", 5)
    (tmp_path / "videos" / "notes.txt").write_text("x", encoding="utf-8")
    (tmp_path / "videos" / "empty").mkdir()
    assert [v.name for v in list_videos(tmp_path / "videos")] == ["cam é", "cam1.mp4"]
    assert list_videos(tmp_path / "none") == []
    reader = VideoReader(folder)
    assert reader.info.fps is None and reader.info.frame_count == 12
    assert [number(frame) for _, frame in reader.frames(range(2, 12))] == list(range(2, 12))
    cv2.imencode(".png", np.zeros((10, 10, 3), np.uint8))[1].tofile(folder / "img12.png")
    with pytest.raises(BiokinError, match="frame 12 is 10x10"):
        list(VideoReader(folder).frames())


def test_beyond_the_end_and_order(tmp_path):
    reader = VideoReader(make_video(tmp_path / "a.mp4", 20))
    with pytest.raises(BiokinError, match="a.mp4.*frame 20 .*only frames 0 to 19"):
        list(reader.frames(range(18, 22)))
    with pytest.raises(ValueError, match="rise"):
        list(reader.frames([3, 2]))


def test_missing_empty_and_garbage_files(tmp_path):
    with pytest.raises(BiokinError, match="none.mp4: no such video"):
        VideoReader(tmp_path / "none.mp4")
    (tmp_path / "zero.mp4").touch()
    with pytest.raises(BiokinError, match="zero.mp4: the video is empty"):
        VideoReader(tmp_path / "zero.mp4")
    (tmp_path / "text.mp4").write_bytes(b"not a video" * 1000)
    with pytest.raises(BiokinError, match="text.mp4: not a single frame"):
        VideoReader(tmp_path / "text.mp4")
    (tmp_path / "folder").mkdir()
    with pytest.raises(BiokinError, match="folder: no image"):
        VideoReader(tmp_path / "folder")


def test_truncated_video(tmp_path):
    whole = make_video(tmp_path / "whole.avi", 90, "MJPG").read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) // 2])
    reader = VideoReader(tmp_path / "cut.avi")
    got = 0
    with pytest.raises(BiokinError, match="cut.avi"):
        for _ in reader.frames(range(90)):
            got += 1
    assert 10 < got < 90
    whole = make_video(tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(
        whole[: len(whole) // 3]
    )  # its index is at the end: nothing can be read
    with pytest.raises(BiokinError, match="cut.mp4: not a single frame"):
        VideoReader(tmp_path / "cut.mp4")


def test_written_videos_read_back(tmp_path):
    with VideoWriter(tmp_path / "w.mp4", 59.94, (97, 64)) as writer:
        for index in range(30):
            writer.write(numbered(index, (97, 64)))
    assert writer.codec in ("H.264", "MPEG-4")
    reader = VideoReader(tmp_path / "w.mp4")
    assert (reader.info.width, reader.info.height, reader.info.frame_count) == (96, 64, 30)
    assert reader.info.fps == pytest.approx(59.94, abs=0.01)
    assert [number(frame) for _, frame in reader.frames()] == list(range(30))


def test_black_and_white_survives_without_loss_and_bytes_repeat(tmp_path):
    pytest.importorskip("av")
    noise = np.random.default_rng(0).random((10, 64, 96)) > 0.5
    for name in "ab":
        with VideoWriter(tmp_path / f"{name}.mp4", 30, (96, 64), crf=0, threads=1) as writer:
            for mask in noise:
                writer.write(np.repeat(mask[..., None] * np.uint8(255), 3, axis=2))
    read = [frame[..., 1] for _, frame in VideoReader(tmp_path / "a.mp4").frames()]
    assert np.abs(np.stack(read) - noise * 255.0).max() < 5  # lossless in YUV: white may come back as 253
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_a_failed_video_is_removed(tmp_path):
    with pytest.raises(KeyboardInterrupt), VideoWriter(tmp_path / "w.mp4", 30, (96, 64)) as writer:
        writer.write(numbered(0))
        raise KeyboardInterrupt
    assert not (tmp_path / "w.mp4").exists()
    with pytest.raises(BiokinError, match="written"):
        VideoWriter(tmp_path / "nowhere" / "w.mp4", 30, (96, 64))


def test_opencv_writes_when_there_is_no_h264(tmp_path, monkeypatch):
    monkeypatch.setattr(VideoWriter, "_open_h264", lambda self, fps: False)
    with VideoWriter(tmp_path / "w.mp4", 30, (96, 64)) as writer:
        for index in range(5):
            writer.write(numbered(index))
    assert writer.codec == "MPEG-4" and VideoReader(tmp_path / "w.mp4").info.frame_count == 5
    with pytest.raises(BiokinError, match="writ"):
        VideoWriter(tmp_path / "nowhere" / "w.mp4", 30, (96, 64))
    with pytest.raises(ValueError, match="frame is"):
        VideoWriter(tmp_path / "v.mp4", 30, (96, 64)).write(np.zeros((10, 10, 3), np.uint8))
