"""A volunteer while the run key is replaced by its successor, and while a thief signs with it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from barnraise.contract.run_keys import EPOCHS_PER_KEY, name_successor
from barnraise.core.identity import Identity
from coordinator.store.next_entry import succession_of
from coordinator.store.run_store import RunStore
from peer.volunteer.actions import LogNews
from peer.volunteer.contribution import readmitted
from tests.support import parts
from tests.support.coordinators import fold_round, head_of, opened_store, reopened, train_round
from tests.support.exchanging import Peer, played

SUCCESSOR, THIEFS = (Identity.from_seed(bytes([n]) * 32) for n in (11, 13))


def name(store: RunStore, successor: Identity, generation: int = 1) -> None:
    named = name_successor(parts.RUN, generation, store.authority, successor)
    store.amend(succession_of(store.snapshot, named, parts.NOW), parts.NOW)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with opened_store(tmp_path / "run") as made:
        train_round(made, parts.BEN)
        name(made, SUCCESSOR)
        yield made


@contextmanager
def copied(store: RunStore, folder: Path, by: Identity) -> Iterator[RunStore]:
    """The coordinator that is started from a copy of the folder with another key."""
    shutil.copytree(store.folder, folder)
    with reopened(replace(store, folder=folder), by=by) as copy:
        yield copy


def test_a_volunteer_follows_the_successor_and_no_longer_the_key_before_it(
    store: RunStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def play(peer: Peer) -> None:
        await peer.catch_up()
        assert peer.keys.run_key == parts.AUTHORITY.public
        with copied(store, tmp_path / "successor", SUCCESSOR) as rotated:
            resumed = rotated.resume(parts.NOW)
            assert resumed.entry.epoch == EPOCHS_PER_KEY
            fold_round(rotated, parts.BEN)
            peer.store = rotated
            assert peer.exchange.log_news(peer.head) is LogNews.AMENDED
            await peer.catch_up()
            assert peer.keys.run_key == SUCCESSOR.public
            assert peer.follower.tip == rotated.snapshot.tip
            assert caplog.text.count("the run's key was replaced by its successor") == 1
            store.resume(parts.NOW, after_epoch=77)
            assert peer.exchange.log_news(head_of(store)) is LogNews.NONE
            assert peer.restarted().keys.run_key == parts.AUTHORITY.public, "before it loads its work"
            rotated.write_checkpoint(parts.NOW)
            late = Peer(rotated, tmp_path / "late")
            await late.catch_up(from_checkpoint=True)
            assert (late.keys.run_key, late.follower.tip) == (SUCCESSOR.public, rotated.snapshot.tip)

    played(store, tmp_path, play)


def test_rounds_that_a_thief_closed_are_void(store: RunStore, tmp_path: Path) -> None:
    """The volunteer followed the thief, also into an epoch of his; its contribution is owed again."""

    async def play(peer: Peer) -> None:
        await peer.catch_up()
        with (
            copied(store, tmp_path / "successor", SUCCESSOR) as rotated,
            copied(store, tmp_path / "thief", parts.AUTHORITY) as thief,
        ):
            thief.resume(parts.NOW, after_epoch=500)
            peer.store = thief
            await peer.catch_up()
            commit = await peer.publish()
            peer.accepted(commit)
            fold_round(thief, parts.BEN)
            await peer.catch_up()
            assert peer.follower.tip == thief.snapshot.tip
            peer.exchange.hand_over()
            assert not peer.owes
            rotated.resume(parts.NOW)
            peer.store = rotated
            await peer.catch_up()
            assert (peer.follower.tip, peer.keys.run_key) == (rotated.snapshot.tip, SUCCESSOR.public)
            assert peer.owes

    played(store, tmp_path, play)


def test_a_thief_replaces_no_successor(store: RunStore, tmp_path: Path) -> None:
    """He resumes before the entry that names one, and names his own."""

    async def play(peer: Peer) -> None:
        await peer.catch_up()
        ours = peer.follower.tip
        with copied(store, tmp_path / "thief", parts.AUTHORITY) as thief:
            before = thief.snapshot
            thief.snapshot = replace(
                before,
                position=replace(before.position, previous=before.log[0].name, height=1, successors=()),
                log=type(before.log)(before.log[:1]),
            )
            thief.snapshot = replace(
                thief.snapshot, tip=replace(before.tip, position=thief.snapshot.position)
            )
            thief.resume(parts.NOW)
            name(thief, THIEFS)
            thief.write_checkpoint(parts.NOW)
            peer.store = thief
            await peer.catch_up()
            assert peer.follower.tip.position.successors == ours.position.successors
            assert peer.follower.tip.position.run_keys(parts.AUTHORITY.public)[1] == SUCCESSOR.public
        with copied(store, tmp_path / "successor", SUCCESSOR) as rotated:
            rotated.resume(parts.NOW)
            fold_round(rotated, parts.BEN)
            peer.store = rotated
            await peer.catch_up()
            assert peer.follower.tip == rotated.snapshot.tip

    played(store, tmp_path, play)


def test_a_commit_is_announced_again_under_the_admission_of_the_successor() -> None:
    commit = parts.commit(parts.ADA)
    assert readmitted(commit, parts.admission(parts.ADA, expires=parts.NOW + 5)) is commit
    by_successor = parts.admission(parts.ADA, by=SUCCESSOR)
    again = readmitted(commit, by_successor)
    assert (again.blob, again.admission) == (commit.blob, by_successor)


def test_two_rotations_are_followed_at_once(store: RunStore, tmp_path: Path) -> None:
    third = Identity.from_seed(bytes([12]) * 32)

    async def play(peer: Peer) -> None:
        await peer.catch_up()
        with copied(store, tmp_path / "successor", SUCCESSOR) as rotated:
            rotated.resume(parts.NOW)
            fold_round(rotated, parts.BEN)
            name(rotated, third, 2)
            with copied(rotated, tmp_path / "third", third) as again:
                again.resume(parts.NOW)
                fold_round(again, parts.BEN)
                peer.store = again
                await peer.catch_up()
                assert (peer.follower.tip, peer.keys.run_key) == (again.snapshot.tip, third.public)

    played(store, tmp_path, play)
