"""Durable files: they get their names whole or not at all, and what a killed program left is swept."""

from __future__ import annotations

from pathlib import Path

import pytest

from barnraise.core.errors import FolderInUse
from barnraise.runtime.files import (
    UNFINISHED,
    Batch,
    keep_file,
    make_folder,
    owned_folder,
    put_in_place,
    scratch_folder,
    write_atomic,
)
from tests.crash.recorded_disk import RecordedDisk


def test_a_folder_that_is_put_in_place_is_whole_after_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, done = tmp_path / "root", False
    root.mkdir()

    def check(state: Path) -> None:
        final = state / "models" / "final"
        if final.exists():
            assert (final / "a").read_bytes() == b"a" * 100
            assert (final / "sub" / "b").read_bytes() == b"b" * 100
        assert final.exists() or not done

    disk = RecordedDisk(root, tmp_path / "states", check, seeds=20)
    with disk.recording(monkeypatch):
        with scratch_folder(root) as work:
            (work / "a").write_bytes(b"a" * 100)
            (work / "sub").mkdir()
            (work / "sub" / "b").write_bytes(b"b" * 100)
            put_in_place(work, root / "models" / "final")
        done = True
    assert [path.name for path in root.iterdir()] == ["models"]


def test_what_a_batch_names_is_there_before_the_next_file_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    root.mkdir()

    def check(state: Path) -> None:
        if (state / "index").exists():
            assert (state / "index").read_bytes() == b"x y z"
            for name in "xyz":
                assert (state / name / "file").read_bytes() == name.encode()

    disk = RecordedDisk(root, tmp_path / "states", check, seeds=20)
    with disk.recording(monkeypatch):
        (root / "linked").write_bytes(b"y")
        (root / "part").write_bytes(b"z")
        with Batch() as batch:
            write_atomic(root / "x" / "file", b"x", batch=batch)
            batch.link(root / "linked", root / "y" / "file")
        keep_file(root / "part", root / "z" / "file")
        write_atomic(root / "index", b"x y z")
        assert disk.states > 100


def test_an_error_in_a_batch_leaves_older_files_and_nothing_new(tmp_path: Path) -> None:
    write_atomic(tmp_path / "old", b"old")

    def fail() -> None:
        with Batch() as batch:
            write_atomic(tmp_path / "old", b"new", batch=batch)
            write_atomic(tmp_path / "other", b"new", batch=batch)
            batch.link(tmp_path / "missing", tmp_path / "link")

    with pytest.raises(FileNotFoundError):
        fail()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"old": b"old"}


def test_a_start_sweeps_its_own_folder_and_no_other(tmp_path: Path) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    for folder in (mine, other):
        make_folder(folder / "deep" / f"{UNFINISHED}folder")
        (folder / f"{UNFINISHED}file").write_bytes(b"half")
        (folder / "deep" / "kept.part").write_bytes(b"resumed")
    with owned_folder(mine, "peer"):
        assert not list(mine.rglob(f"{UNFINISHED}*"))
        assert (mine / "deep" / "kept.part").exists()
        (mine / f"{UNFINISHED}in-use").write_bytes(b"half")
        with pytest.raises(FolderInUse), owned_folder(mine, "peer"):
            pass
        assert (mine / f"{UNFINISHED}in-use").exists()
    assert len(list(other.rglob(f"{UNFINISHED}*"))) == 2


def test_scratch_folders_of_killed_programs_are_removed_and_used_ones_stay(tmp_path: Path) -> None:
    killed = tmp_path / f"{UNFINISHED}killed"
    killed.mkdir()
    with scratch_folder(tmp_path) as used:
        assert not killed.exists()
        with scratch_folder(tmp_path) as another:
            assert used.exists()
            assert another != used
    assert not list(tmp_path.iterdir())
