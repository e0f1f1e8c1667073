"""A volunteer's saved work: an older save stays valid until a newer one is complete, and damage is found."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import load_file, save_file

from barnraise.contract.state import TrainState
from barnraise.contract.tip import Position, Tip
from barnraise.core.errors import DiskFull, FileDamaged, NewerVersion
from barnraise.core.ids import BlobHash, Round
from peer.volunteer.saved_state import NotSaved, SavedState, SavedWork, Unchanged
from tests.support.parts import HASH_A, HASH_B, tensors

INNER: dict[str, npt.NDArray[Any]] = {"step": np.array([7], np.int64), "m/a": np.ones(3, np.float32)}


def state(round: int) -> TrainState:
    return TrainState(tensors(round), {"momentum": tensors(100 + round)}, round)


def tip(round: int) -> Tip:
    return Tip(Position(Round(round), BlobHash(HASH_B)), state(round).hash())


def save(store: SavedState, round: int, pending: str = "") -> None:
    store.save_state(tip(round), state(round), tensors(50 + round), INNER, pending)


def loaded(folder: Path, charter: str = HASH_A) -> SavedWork:
    saved = SavedState(folder, charter).load()
    assert isinstance(saved, SavedWork)
    return saved


def check(saved: SavedWork, round: int, residual: int, pending: str) -> None:
    assert saved.tip == tip(round)
    assert saved.state.hash() == state(round).hash()
    assert saved.pending == pending
    assert saved.inner.keys() == INNER.keys()
    assert all((saved.inner[name] == INNER[name]).all() for name in INNER)
    expected = tensors(residual)
    assert saved.residual.keys() == expected.keys()
    assert all((saved.residual[name] == expected[name]).all() for name in expected)


def test_an_empty_folder_has_no_save(tmp_path: Path) -> None:
    assert SavedState(tmp_path / "new", HASH_A).load() == NotSaved()


def test_the_start_of_a_round_is_loaded_as_saved(tmp_path: Path) -> None:
    save(SavedState(tmp_path, HASH_A), 3, "a commit")
    check(loaded(tmp_path), 3, 53, "a commit")


def test_a_contribution_changes_only_residual_and_commit(tmp_path: Path) -> None:
    store = SavedState(tmp_path, HASH_A)
    save(store, 3)
    store.save_contribution(tensors(9), "a commit")
    check(loaded(tmp_path), 3, 9, "a commit")


def test_unchanged_files_are_not_written_again(tmp_path: Path) -> None:
    store = SavedState(tmp_path, HASH_A)
    save(store, 3)
    before = {path.name: path.stat().st_ino for path in tmp_path.glob("*.safetensors")}
    store.save_state(tip(4), state(4), Unchanged(), Unchanged(), "a commit")
    check(loaded(tmp_path), 4, 53, "a commit")
    after = {path.name: path.stat().st_ino for path in tmp_path.glob("*.safetensors")}
    changed = {name.partition("-")[0] for name in after.keys() - before.keys()}
    assert changed == {"state"}


def test_saving_continues_after_a_load(tmp_path: Path) -> None:
    save(SavedState(tmp_path, HASH_A), 3)
    again = SavedState(tmp_path, HASH_A)
    assert isinstance(again.load(), SavedWork)
    again.save_contribution(tensors(9), "a commit")
    check(loaded(tmp_path), 3, 9, "a commit")
    save(again, 4)
    check(loaded(tmp_path), 4, 54, "")


def test_old_files_are_not_left_behind(tmp_path: Path) -> None:
    store = SavedState(tmp_path, HASH_A)
    for round in range(4):
        save(store, round)
        store.save_contribution(tensors(9), "c")
    # The state, the one before it, residual, inner, and the file that names them.
    assert len(list(tmp_path.iterdir())) == 5


def test_the_state_before_the_newest_stays(tmp_path: Path) -> None:
    store = SavedState(tmp_path, HASH_A)
    assert not store.state_files
    for round in (3, 4, 6):
        save(store, round)
    save(store, 6)  # the same state again
    store.save_contribution(tensors(9), "c")
    again = SavedState(tmp_path, HASH_A)
    again.load()
    for each in (store, again):
        assert {name: file.step for name, file in each.state_files.items()} == {
            state(6).hash(): 6,
            state(4).hash(): 4,
        }
        assert all(file.path.is_file() for file in each.state_files.values())


def test_the_parameters_of_saved_states_are_those_of_their_hash(tmp_path: Path) -> None:
    store = SavedState(tmp_path, HASH_A)
    for round in (2, 3, 4):
        save(store, round)
    assert store.params(state(2).hash()) is None
    for round in (3, 4):
        found = store.params(state(round).hash())
        assert found is not None
        assert all((found[name] == array).all() for name, array in state(round).params.items())
    newest = store.state_files[state(4).hash()].path
    newest.write_bytes(store.state_files[state(3).hash()].path.read_bytes())
    assert store.params(state(4).hash()) is None, "another state is in the file"


def test_a_save_whose_state_before_is_gone_is_loaded(tmp_path: Path) -> None:
    store = SavedState(tmp_path, HASH_A)
    save(store, 3)
    save(store, 4)
    store.state_files[state(3).hash()].path.unlink()
    again = SavedState(tmp_path, HASH_A)
    again.load()
    assert again.state_files.keys() == {state(4).hash()}


Write = Callable[[Path, bytes], None]


def dying_after(writes: int) -> Callable[..., None]:
    """An `os.replace` that works that many times, and then finds the disk full."""
    left, real = iter(range(writes)), os.replace

    def replace(*paths: Path) -> None:
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, "no room")
        real(*paths)

    return replace


@pytest.mark.parametrize("writes", range(5))
def test_a_crash_between_two_writes_leaves_the_older_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    store = SavedState(tmp_path, HASH_A)
    save(store, 3, "old")
    monkeypatch.setattr(os, "replace", dying_after(writes))
    if writes < 4:
        with pytest.raises(DiskFull):
            save(store, 4, "new")
        check(loaded(tmp_path), 3, 53, "old")
    else:
        save(store, 4, "new")
        check(loaded(tmp_path), 4, 54, "new")


@pytest.mark.parametrize("writes", range(3))
def test_a_crash_while_a_contribution_is_saved_leaves_the_older_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    store = SavedState(tmp_path, HASH_A)
    save(store, 3, "")
    monkeypatch.setattr(os, "replace", dying_after(writes))
    if writes < 2:
        with pytest.raises(DiskFull):
            store.save_contribution(tensors(9), "new")
        check(loaded(tmp_path), 3, 53, "")
    else:
        store.save_contribution(tensors(9), "new")
        check(loaded(tmp_path), 3, 9, "new")


def test_a_save_after_a_failed_one_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SavedState(tmp_path, HASH_A)
    save(store, 3)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dying_after(2))
        with pytest.raises(DiskFull):
            save(store, 4)
    save(store, 4)
    check(loaded(tmp_path), 4, 54, "")


DAMAGE = [
    (kind, how) for kind in ("state", "residual", "inner", "current") for how in ("cut", "emptied", "gone")
]
DAMAGE.remove(("current", "gone"))  # then nothing was saved


@pytest.mark.parametrize(("kind", "damage"), DAMAGE)
def test_a_save_with_a_damaged_file_is_set_aside(tmp_path: Path, kind: str, damage: str) -> None:
    folder = tmp_path / "work"
    save(SavedState(folder, HASH_A), 3)
    (path,) = folder.glob(f"{kind}*")
    match damage:
        case "cut":
            path.write_bytes(path.read_bytes()[:-5])
        case "emptied":
            path.write_bytes(b"")
        case _:
            path.unlink()
    with pytest.raises(FileDamaged) as caught:
        SavedState(folder, HASH_A).load()
    assert "\n" not in caught.value.problem
    (aside,) = (tmp_path / "damaged").iterdir()
    assert aside.name.endswith("-work")
    assert str(aside) in caught.value.fix
    assert len(list(aside.iterdir())) == (3 if damage == "gone" else 4)
    assert SavedState(folder, HASH_A).load() == NotSaved()


def test_one_changed_value_of_the_state_is_found(tmp_path: Path) -> None:
    save(SavedState(tmp_path, HASH_A), 3)
    (path,) = tmp_path.glob("state*")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(FileDamaged):
        SavedState(tmp_path, HASH_A).load()


@pytest.mark.parametrize("kind", ["state", "residual", "inner"])
def test_a_value_that_is_not_finite_sets_the_save_aside(tmp_path: Path, kind: str) -> None:
    save(SavedState(tmp_path / "work", HASH_A), 3)
    (path,) = (tmp_path / "work").glob(f"{kind}*")
    arrays = load_file(path)
    next(array for array in arrays.values() if array.dtype == np.float32).flat[0] = np.nan
    save_file(arrays, path)
    with pytest.raises(FileDamaged):
        SavedState(tmp_path / "work", HASH_A).load()
    assert isinstance(SavedState(tmp_path / "work", HASH_A).load(), NotSaved)


@pytest.mark.parametrize("key", ["round", "state", "files", "charter"])
def test_a_pointer_that_lacks_a_key_is_a_state_error(tmp_path: Path, key: str) -> None:
    save(SavedState(tmp_path, HASH_A), 3)
    path = tmp_path / "current.json"
    fields = json.loads(path.read_bytes())
    del fields[key]
    path.write_text(json.dumps(fields))
    with pytest.raises(FileDamaged):
        SavedState(tmp_path, HASH_A).load()


def test_the_save_of_another_run_is_a_state_error(tmp_path: Path) -> None:
    save(SavedState(tmp_path, HASH_A), 3)
    with pytest.raises(FileDamaged):
        SavedState(tmp_path, HASH_B).load()


def test_the_save_of_a_newer_version_is_left_as_it_is(tmp_path: Path) -> None:
    save(SavedState(tmp_path, HASH_A), 3)
    path = tmp_path / "current.json"
    table = json.loads(path.read_bytes()) | {
        "version": 2,
        "release": "9.1",
        "more": "than this version knows",
    }
    path.write_text(json.dumps(table), encoding="utf-8")
    with pytest.raises(NewerVersion) as refused:
        SavedState(tmp_path, HASH_A).load()
    assert refused.value.release == "9.1"
    assert json.loads(path.read_bytes()) == table
