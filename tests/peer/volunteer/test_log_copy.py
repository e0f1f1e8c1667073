"""A volunteer's copy of the log: complete, kept over restarts, never exchanged for a shorter one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from barnraise.contract.double_signing import Certified
from barnraise.core.errors import Unreachable
from barnraise.core.ids import BlobHash
from barnraise.runtime.blob_store import BlobStore
from coordinator.store.run_store import RunStore
from peer.volunteer.log_copy import LogCopy
from tests.support import parts
from tests.support.coordinators import FakeSwarm, fold_round, head_of, opened_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with opened_store(tmp_path / "run") as made:
        for _ in range(3):
            fold_round(made, parts.BEN)
        yield made


def copied(store: RunStore, folder: Path, play: Callable[[LogCopy], Awaitable[None]]) -> LogCopy:
    files = (store.folder / "blobs").glob("??/*")
    blobs = BlobStore(folder / "blobs")
    swarm = FakeSwarm(blobs, held={BlobHash(path.name): path.read_bytes() for path in files})
    copy = LogCopy(store.charter, swarm.as_swarm, blobs, folder / "newest.json", tuple)
    copy.load()
    asyncio.run(play(copy))  # type: ignore[arg-type]
    return copy


def test_all_entries_are_kept_back_to_the_charter(store: RunStore, tmp_path: Path) -> None:
    async def play(copy: LogCopy) -> None:
        assert copy.name is None
        await copy.update(head_of(store))

    copy = copied(store, tmp_path / "peer", play)
    assert {logged.name for logged in store.snapshot.log} < copy.names
    assert BlobHash(store.charter.digest) in copy.names
    assert all(name in copy.blobs for name in copy.names)
    assert copy.name is not None
    newest = Certified.model_validate_json(copy.blobs.get(copy.name))
    assert (newest.vote.entry, newest.vote.height) == (store.snapshot.position.previous, 2)


def test_a_restart_finds_the_copy_without_the_network(store: RunStore, tmp_path: Path) -> None:
    async def update(copy: LogCopy) -> None:
        await copy.update(head_of(store))

    async def nothing(_: LogCopy) -> None: ...

    before = copied(store, tmp_path / "peer", update)
    again = copied(store, tmp_path / "peer", nothing)
    assert (again.name, again.names) == (before.name, before.names)


def test_a_shorter_log_changes_nothing_and_a_later_epoch_does(store: RunStore, tmp_path: Path) -> None:
    short = head_of(store)
    fold_round(store, parts.ADA)
    long = head_of(store)
    store.resume(parts.NOW)

    async def play(copy: LogCopy) -> None:
        await copy.update(long)
        before = copy.name
        await copy.update(short)
        assert copy.name == before
        await copy.update(head_of(store))
        assert copy.name != before
        assert before is not None
        assert before not in copy.blobs

    copied(store, tmp_path / "peer", play)


def test_a_copy_that_cannot_be_completed_keeps_what_it_was(store: RunStore, tmp_path: Path) -> None:
    async def play(copy: LogCopy) -> None:
        copy.swarm.held.clear()  # type: ignore[attr-defined]
        with pytest.raises(Unreachable):
            await copy.update(head_of(store))
        assert copy.name is None

    copied(store, tmp_path / "peer", play)
