"""Outputs appear together or not at all."""

from __future__ import annotations

import errno
import os

import pytest

from pose2sim_biokin.errors import BiokinError
from pose2sim_biokin.io import atomic
from pose2sim_biokin.io.atomic import OutputSet, atomic_path


def _tree(folder):
    return {str(p.relative_to(folder)): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


def _write_all(folder, text, fail=None):
    with OutputSet() as outputs:
        for name in ("kinematics/a.mot", "pose-3d/a.trc"):
            outputs.stage(folder / name).write_text(text)
        if fail is not None:
            raise fail
        outputs.commit()


def test_all_files_appear_and_nothing_else(tmp_path):
    _write_all(tmp_path, "new")
    assert _tree(tmp_path) == {"kinematics/a.mot": "new", "pose-3d/a.trc": "new"}
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_dir()) == ["kinematics", "pose-3d"]


@pytest.mark.parametrize("failure", [RuntimeError("x"), KeyboardInterrupt(), SystemExit(1)])
def test_a_failed_run_leaves_earlier_results(tmp_path, failure):
    _write_all(tmp_path, "old")
    with pytest.raises(type(failure)):
        _write_all(tmp_path, "new", failure)
    assert _tree(tmp_path) == {"kinematics/a.mot": "old", "pose-3d/a.trc": "old"}


def test_a_failed_first_run_leaves_no_folders(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        _write_all(tmp_path / "project", "new", KeyboardInterrupt())
    assert list(tmp_path.iterdir()) == []


def test_full_disk_is_explained(tmp_path):
    _write_all(tmp_path, "old")
    with pytest.raises(BiokinError, match="disk is full"):
        _write_all(tmp_path, "new", OSError(errno.ENOSPC, "No space left on device"))
    assert _tree(tmp_path) == {"kinematics/a.mot": "old", "pose-3d/a.trc": "old"}


def test_an_error_of_reading_is_not_taken_for_one_of_writing(tmp_path):
    with pytest.raises(PermissionError):
        _write_all(tmp_path, "new", PermissionError(errno.EACCES, "Permission denied", "/videos/cam01.mp4"))


@pytest.mark.parametrize("when", [0, 1, 2, 3])
@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_failure_while_moving_puts_everything_back(tmp_path, monkeypatch, when, failure):
    _write_all(tmp_path, "old")
    replace, calls = os.replace, []

    def failing(source, target):
        calls.append(source)
        if len(calls) == when + 1:
            raise failure
        replace(source, target)

    monkeypatch.setattr(atomic.os, "replace", failing)
    with pytest.raises((BiokinError, KeyboardInterrupt)):
        _write_all(tmp_path, "new")
    assert _tree(tmp_path) == {"kinematics/a.mot": "old", "pose-3d/a.trc": "old"}


def test_folder_that_cannot_be_written(tmp_path, monkeypatch):
    def refuse(**kwargs):
        raise PermissionError(errno.EACCES, "Permission denied", str(kwargs["dir"]))

    monkeypatch.setattr(atomic.tempfile, "mkdtemp", refuse)
    with OutputSet() as outputs, pytest.raises(BiokinError, match=r"kinematics: permission denied.*writable"):
        outputs.prepare(tmp_path / "kinematics")
    assert not (tmp_path / "kinematics").exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folder(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with OutputSet() as outputs, pytest.raises(BiokinError, match="permission denied"):
            outputs.prepare(tmp_path / "kinematics")
    finally:
        tmp_path.chmod(0o700)


def test_a_file_in_the_place_of_a_folder_and_the_other_way_round(tmp_path):
    (tmp_path / "kinematics").write_text("")
    (tmp_path / "a.mot").mkdir()
    with OutputSet() as outputs:
        with pytest.raises(BiokinError, match="a file is in the place of a folder"):
            outputs.prepare(tmp_path / "kinematics")
        with pytest.raises(BiokinError, match="a folder is in the place of an output file"):
            outputs.stage(tmp_path / "a.mot")


def test_a_staged_file_that_was_never_written(tmp_path):
    with OutputSet() as outputs, pytest.raises(BiokinError, match="was not written"):
        outputs.stage(tmp_path / "a.mp4")
        outputs.commit()


def test_atomic_path_keeps_the_name(tmp_path):
    with atomic_path(tmp_path / "a.txt") as path:
        assert path.name == "a.txt" and path.parent.parent == tmp_path
        path.write_text("x")
    assert _tree(tmp_path) == {"a.txt": "x"}
