"""Damaged files at a restart: set aside, replaced by a copy, computed again, or fetched from volunteers."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from barnraise.contract.archive import CHARTER, contribution_path, entry_path
from barnraise.contract.records import blob_name
from barnraise.contract.state import TrainState
from barnraise.core.errors import FileDamaged, StateError, Unreachable
from barnraise.core.ids import BlobHash, blob_hash
from barnraise.network.state_download import download_state
from barnraise.runtime.damaged import DAMAGED
from coordinator.reasons.recovery import ContributionFile, EntryFile
from coordinator.rounds.missing_files import fetch_missing_files
from coordinator.run_folder import CHAT_TEMPLATE
from coordinator.store import restoring
from coordinator.store.restoring import CopiesNeeded
from coordinator.store.run_store import RunStore
from tests.support import parts, virtual_time
from tests.support.coordinators import (
    FakeSwarm,
    archive,
    checkpoint,
    contribution,
    fold_round,
    opened_store,
    reopened,
    session_of,
    show,
    train_round,
    until_idle,
)
from tests.support.parts import ADA, BEN
from tests.support.websites import website


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    """A run with checkpoints of rounds 0 and 1, and a folded round after the newest one."""
    with opened_store(tmp_path) as store:
        train_round(store, ADA, BEN)
        fold_round(store, ADA, BEN)
        yield store


def spoil(path: Path, how: str = "cut") -> None:
    """Damage a file; its hard links in the archive get copies of their own first where `how` says so."""
    data = path.read_bytes()
    path.unlink()
    match how:
        case "cut":
            path.write_bytes(data[:-1])
        case "emptied":
            path.write_bytes(b"")
        case "flipped":
            path.write_bytes(bytes([data[0] ^ 1]) + data[1:])


def spoil_both(store: RunStore, name: BlobHash, archive_path: str) -> None:
    """Damage a blob and the archive's copy of it."""
    spoil(store.blobs.path(name))
    spoil(archive(store) / archive_path)


def set_aside(store: RunStore) -> list[str]:
    """The hashes of the files that were set aside."""
    folder = store.folder / DAMAGED
    return sorted(path.name.partition("-")[2] for path in folder.iterdir()) if folder.exists() else []


def kept_whole(store: RunStore, again: RunStore) -> None:
    """Assert that the restart came to the same run."""
    assert again.state.hash() == store.state.hash()
    assert again.snapshot.tip == store.snapshot.tip
    assert again.snapshot.log == store.snapshot.log
    assert again.snapshot.accepted.keys() == store.snapshot.accepted.keys()


@pytest.mark.parametrize("how", ["cut", "emptied", "flipped", "gone"])
@pytest.mark.parametrize("which", ["close", "old close", "contribution", "checkpoint"])
def test_a_damaged_file_is_set_aside_and_taken_from_the_archive(
    store: RunStore, which: str, how: str
) -> None:
    show(store)
    run = store.snapshot
    names = {
        "close": run.log[1].name,
        "old close": run.log[0].name,
        "contribution": next(iter(run.history.blobs[1])),
        "checkpoint": _state_file(store, 1),
    }
    spoil(store.blobs.path(names[which]), how)
    with reopened(store) as again:
        kept_whole(store, again)
        assert again.blobs.get(names[which])
        assert max(again.snapshot.checkpoints) == 1
    assert set_aside(store) == ([] if how == "gone" else [names[which]])


def test_a_file_that_the_archive_lacks_is_taken_from_a_mirror(store: RunStore, tmp_path: Path) -> None:
    show(store)
    copy = tmp_path / "copy"
    shutil.copytree(archive(store), copy)
    name = store.snapshot.log[0].name
    spoil_both(store, name, entry_path(0, 0))
    store.journal._db.execute("DELETE FROM entries")  # a longer log than it keeps
    spoil_both(store, _state_file(store, 1), "checkpoints/round-000001/adapter_model.safetensors")
    with website(copy) as site, reopened(store, ("http://127.0.0.1:1", site.url)) as again:
        kept_whole(store, again)
        show(again)
    assert (archive(store) / entry_path(0, 0)).read_bytes() == store.blobs.get(name)
    assert {path.name: path.read_bytes() for path in checkpoint(store, 1).iterdir()} == {
        path.name: path.read_bytes() for path in (copy / "checkpoints" / "round-000001").iterdir()
    }


def test_a_checkpoint_that_is_lost_is_computed_from_an_older_one(store: RunStore) -> None:
    spoil_both(store, _state_file(store, 1), "checkpoints/round-000001/adapter_model.safetensors")
    with reopened(store) as again:
        kept_whole(store, again)
        assert sorted(again.snapshot.checkpoints) == [0]


def test_without_any_checkpoint_the_state_is_computed_from_the_base_model(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def first(*_: object) -> TrainState:
        return parts.state()

    monkeypatch.setattr(restoring, "initial_state", first)
    for round in (0, 1):
        path = f"checkpoints/round-{round:06d}/adapter_model.safetensors"
        spoil_both(store, _state_file(store, round), path)
    with reopened(store) as again:
        kept_whole(store, again)
        assert not again.snapshot.checkpoints
        again.write_checkpoint(parts.NOW)  # as the session does first
        assert sorted(again.snapshot.checkpoints) == [2]


def test_a_damaged_manifest_of_a_published_checkpoint_is_written_again(store: RunStore) -> None:
    name = blob_hash(store.snapshot.checkpoints[1].wire)
    spoil(store.blobs.path(name))
    with reopened(store) as again:
        kept_whole(store, again)
        assert max(again.snapshot.checkpoints) == 1
        assert again.blobs.get(name) == store.snapshot.checkpoints[1].wire
    assert set_aside(store) == [name]


def test_an_accepted_contribution_that_is_lost_is_fetched_again_before_the_close(store: RunStore) -> None:
    commit, blob = contribution(store, ADA, 7)
    store.blobs.put(blob)
    store.accept(commit, parts.NOW)
    spoil(store.blobs.path(blob_name(commit.value)))
    with reopened(store) as again:
        assert again.lost == (commit,)
        assert not again.snapshot.accepted
        assert set_aside(store) == [blob_name(commit.value)]
        swarm = FakeSwarm(again.blobs, held={blob_name(commit.value): blob})

        async def run() -> None:
            session = session_of(again, swarm)
            await session.tick()
            await until_idle(session)

        asyncio.run(run())
        assert again.snapshot.accepted.keys() == {ADA.public}


@pytest.mark.parametrize("how", ["cut", "emptied", "flipped", "gone"])
def test_the_newest_close_is_taken_from_the_journal_before_anybody_has_a_copy(
    store: RunStore, how: str
) -> None:
    newest = store.snapshot.log[-1].name
    spoil(store.blobs.path(newest), how)
    with reopened(store) as again:
        kept_whole(store, again)
        assert blob_hash(again.blobs.get(newest)) == newest


@pytest.mark.parametrize("how", ["cut", "emptied", "flipped", "gone"])
def test_an_entry_between_the_checkpoint_and_a_snapshot_is_taken_from_a_copy(
    store: RunStore, how: str
) -> None:
    store.save(parts.NOW)
    spoil(store.blobs.path(store.snapshot.log[-1].name), how)
    with reopened(store) as again:
        kept_whole(store, again)


def test_what_no_archive_has_is_fetched_from_volunteers(
    store: RunStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    show(store)
    run = store.snapshot
    blob = next(iter(run.history.blobs[1]))
    held = {name: store.blobs.get(name) for name in (run.log[0].name, run.log[1].name, blob)}
    spoil_both(store, run.log[0].name, entry_path(0, 0))
    spoil_both(store, run.log[1].name, entry_path(0, 1))
    store.journal._db.execute("DELETE FROM entries")  # a longer log than it keeps
    spoil_both(store, blob, contribution_path(blob))
    present = [parts.presence(ADA)]
    swarm = FakeSwarm(store.blobs, held=held, present=present)
    with pytest.raises(CopiesNeeded) as closes, reopened(store):
        pass
    assert closes.value.files == (EntryFile(run.log[0].name, 0, 0), EntryFile(run.log[1].name, 0, 1))
    _fetch(closes.value, swarm)
    with pytest.raises(CopiesNeeded) as contributions, reopened(store):
        pass
    assert [type(file) for file in contributions.value.files] == [ContributionFile]
    assert contributions.value.files[0].name == blob
    _fetch(contributions.value, swarm)
    with reopened(store) as again:
        kept_whole(store, again)


def test_where_contributions_are_lost_the_run_goes_on_from_a_state_that_the_log_names(
    store: RunStore,
) -> None:
    state = store.state
    _lose_contributions(store, 1)
    fold_round(store, ADA)
    with pytest.raises(CopiesNeeded) as needed, reopened(store):
        pass
    assert {type(file) for file in needed.value.files} == {ContributionFile}
    _fetch_state(needed.value, store, state)
    with reopened(store) as again:
        kept_whole(store, again)
        assert again.snapshot.tokens == store.snapshot.tokens
        assert max(again.snapshot.checkpoints) == again.snapshot.replay_from == 2
        assert not parts.state_blobs(state).keys() & _blobs(again), "the checkpoint has the state now"
        show(again)
    with reopened(store) as once_more:
        kept_whole(store, once_more)


def test_the_newest_state_and_the_contributions_of_one_round_are_enough(store: RunStore) -> None:
    """What volunteers have after a checkpoint that the coordinator lost."""
    fold_round(store, ADA)
    state = store.state
    fold_round(store, ADA, BEN)
    newest = {name: store.blobs.get(name) for name in store.snapshot.history.blobs[3]}
    for round in (1, 2, 3):
        _lose_contributions(store, round)
    with pytest.raises(CopiesNeeded) as needed, reopened(store):
        pass
    assert needed.value.later is not None
    assert [named.tip.round for named in needed.value.later.named] == [3, 2]
    _fetch_state(needed.value, store, state, **newest)
    with reopened(store) as again:
        kept_whole(store, again)
        assert again.snapshot.replay_from == 3


def test_where_no_checkpoint_is_left_the_run_goes_on_from_a_state_that_the_log_names(
    store: RunStore,
) -> None:
    state = store.state
    _lose_checkpoints(store)
    with pytest.raises(CopiesNeeded) as needed, reopened(store):
        pass
    assert not needed.value.files
    _fetch_state(needed.value, store, state)
    with reopened(store) as again:
        kept_whole(store, again)
        assert again.snapshot.tokens == store.snapshot.tokens
        assert max(again.snapshot.checkpoints) == 2


def test_a_state_before_lost_contributions_does_not_help(store: RunStore) -> None:
    earlier = store.state
    fold_round(store, ADA)
    _lose_contributions(store, 2)
    later = store.state
    fold_round(store, ADA)
    with pytest.raises(CopiesNeeded) as needed, reopened(store):
        pass
    assert needed.value.later is not None
    assert [named.tip.state for named in needed.value.later.named] == [later.hash()]
    for blob in parts.state_blobs(earlier).values():
        store.blobs.put(blob)
    with pytest.raises(CopiesNeeded), reopened(store):
        pass


def test_a_state_with_a_wrong_tensor_is_not_used(store: RunStore) -> None:
    state = store.state
    _lose_contributions(store, 1)
    fold_round(store, ADA)
    with pytest.raises(CopiesNeeded) as needed, reopened(store):
        pass
    later = needed.value.later
    assert later is not None
    wanted = later.wanted(later.named[0])
    blobs = parts.state_blobs(state)
    wrong = next(name for name in blobs if name != wanted.index)
    swarm = FakeSwarm(store.blobs, held=blobs | {wrong: bytes(len(blobs[wrong]))})
    with pytest.raises(Unreachable):
        asyncio.run(download_state(wanted, swarm.as_swarm, store.blobs, [ADA.public]))
    assert later.stored() is None
    with pytest.raises(CopiesNeeded), reopened(store):
        pass


@pytest.mark.parametrize("taken", [True, False])
def test_no_part_of_a_state_stays_behind(store: RunStore, taken: bool) -> None:
    """Whether the run goes on from a state, or its owner came back with the contribution."""
    states, blobs = [store.state], {}
    for name in store.snapshot.history.blobs[1]:
        blobs[name] = store.blobs.get(name)
    _lose_contributions(store, 1)
    for _ in range(2):
        fold_round(store, ADA)
        states.append(store.state)
    fold_round(store, ADA)
    *part, _ = parts.state_blobs(states[2]).items()
    for name, data in [*part, *(parts.state_blobs(states[1]).items() if taken else blobs.items())]:
        assert store.blobs.put(data) == name
    with reopened(store) as again:
        kept_whole(store, again)
        assert (again.snapshot.replay_from > 0) == taken
        for state in states:
            assert not parts.state_blobs(state).keys() & _blobs(again)


def test_files_are_preferred_to_a_state(store: RunStore) -> None:
    state, blobs = store.state, {}
    for name in store.snapshot.history.blobs[1]:
        blobs[name] = store.blobs.get(name)
    _lose_contributions(store, 1)
    fold_round(store, ADA)
    with pytest.raises(CopiesNeeded) as needed, reopened(store):
        pass
    _fetch_state(needed.value, store, state, **blobs)
    with reopened(store) as again:
        kept_whole(store, again)
        assert again.snapshot.replay_from == store.snapshot.replay_from


def test_a_contribution_that_is_damaged_before_its_fold_is_an_error_that_a_restart_mends(
    store: RunStore,
) -> None:
    commit, blob = contribution(store, ADA, 7)
    store.blobs.put(blob)
    store.accept(commit, parts.NOW)
    link = store.close("all contributed", parts.NOW)
    show(store)
    spoil(store.blobs.path(blob_name(commit.value)), "emptied")
    with pytest.raises(FileDamaged):
        store.fold(link)
    with reopened(store) as again:
        assert again.snapshot.tip.round == 3


def test_when_no_intact_checkpoint_continues_the_log_the_error_says_what_helps(store: RunStore) -> None:
    _lose_checkpoints(store)
    with pytest.raises(StateError) as caught, reopened(store):
        pass
    assert "--mirror" in caught.value.fix


def _state_file(store: RunStore, round: int) -> BlobHash:
    files = store.snapshot.checkpoints[round].value.files
    return BlobHash(next(file.hash for file in files if file.name == "adapter_model.safetensors"))


def _fetch(needed: CopiesNeeded, swarm: FakeSwarm) -> None:
    asyncio.run(fetch_missing_files(needed.files, swarm.as_swarm))


def _fetch_state(needed: CopiesNeeded, store: RunStore, state: TrainState, **more: bytes) -> None:
    """Fetch what is needed from a volunteer that has `state`, and the blobs `more`."""
    held = parts.state_blobs(state) | {BlobHash(name): blob for name, blob in more.items()}
    swarm = FakeSwarm(store.blobs, held=held, present=[parts.presence(ADA)])
    virtual_time.run(fetch_missing_files(needed.files, swarm.as_swarm, later=needed.later))


def _lose_contributions(store: RunStore, round: int) -> None:
    for name in store.snapshot.history.blobs[round]:
        store.blobs.remove(name)


def _lose_checkpoints(store: RunStore) -> None:
    """Damage all, where the contributions that replace them were dropped."""
    train_round(store, ADA)
    store.forget_contributions(1, parts.NOW)
    for round in store.snapshot.checkpoints:
        path = f"checkpoints/round-{round:06d}/adapter_model.safetensors"
        spoil_both(store, _state_file(store, round), path)


def _blobs(store: RunStore) -> set[BlobHash]:
    return {BlobHash(path.name) for path in store.blobs.folder.glob("??/*")}


def test_a_missing_older_contribution_comes_from_the_archive(store: RunStore) -> None:
    name = next(iter(store.snapshot.history.blobs[0]))
    store.blobs.path(name).unlink()
    with reopened(store) as again:
        assert name in again.blobs
        assert again.snapshot.replay_from == store.snapshot.replay_from
        kept_whole(store, again)


def test_an_older_contribution_that_is_lost_for_good_moves_where_replays_begin(store: RunStore) -> None:
    lost = next(iter(store.snapshot.history.blobs[0]))
    store.blobs.path(lost).unlink()
    (archive(store) / contribution_path(lost)).unlink()
    with reopened(store) as again:
        assert again.snapshot.replay_from == 1, "the checkpoint after that round"
        assert again.state.hash() == store.state.hash()
        show(again)
        kept = {path.name for path in (archive(again) / "contributions").iterdir()}
        assert kept == set(again.snapshot.history.blobs[1])


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_what_goes_into_each_checkpoint_comes_from_the_newest(store: RunStore, damage: str) -> None:
    template = store.folder / CHAT_TEMPLATE
    before = template.read_bytes()
    if damage == "gone":
        template.unlink()
    else:
        template.write_bytes(b"changed")
    with reopened(store) as again:
        assert template.read_bytes() == before
        assert bool(set_aside(again)) == (damage == "changed")


def test_a_damaged_charter_in_the_archive_is_written_again(store: RunStore) -> None:
    charter = archive(store) / CHARTER
    before = charter.read_bytes()
    charter.write_bytes(before[:-1])
    with reopened(store) as again:
        show(again)
    assert charter.read_bytes() == before
