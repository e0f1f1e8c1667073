"""A banned key goes on sending: the coordinator, each volunteer and each node refuse it at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from barnraise.contract.keys_in_force import KeysInForce
from barnraise.contract.log_entries import Change, StandingChange
from barnraise.contract.records import Commit, Record, blob_name, open_record, seal, tagged
from barnraise.contract.tip import Position, first_position
from barnraise.core.errors import BannedKey, KeyBanned, StateError, Unreachable
from barnraise.core.identity import Identity
from barnraise.core.ids import BlobHash, PublicKey
from barnraise.core.signed import Signed
from barnraise.fold.log import Link, check_step
from barnraise.network.key_access import Access, KeyAccess
from coordinator.rounds.amending import Amending
from coordinator.rounds.membership import Membership
from coordinator.rounds.standing_orders import StandingOrder, leave_order
from coordinator.store.run_store import RunStore
from tests.support import parts
from tests.support.coordinators import (
    FakeSwarm,
    contribution,
    opened_store,
    reopened,
    session_of,
    train_round,
    until_idle,
)
from tests.support.exchanging import Peer, played
from tests.support.swarms import HIVEMIND_WARNS, node, presence, until_present

MAL = parts.BEN


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with opened_store(tmp_path / "coordinator") as made:
        yield made


def ban(store: RunStore, key: Identity = MAL) -> None:
    """As `coordinator ban` and the next tick do."""
    leave_order(store.folder, StandingOrder(keys=(key.public,), level="banned", note="noise"))
    amending = Amending(store)
    entry = amending.entry(parts.NOW)
    assert isinstance(entry, StandingChange)
    amending.enter(entry, parts.NOW)


def as_record(commit: Signed[Commit]) -> Signed[Record]:
    return Signed(commit.value, commit.signer, commit.wire)


def accept(store: RunStore, owner: Identity, seed: int) -> BlobHash:
    commit, blob = contribution(store, owner, seed)
    store.blobs.put(blob)
    store.accept(commit, parts.NOW)
    return blob_name(commit.value)


def test_its_contribution_to_the_open_round_is_dropped(store: RunStore) -> None:
    kept, dropped = accept(store, parts.ADA, 1), accept(store, MAL, 2)
    ban(store)
    assert [blob in store.blobs for blob in (kept, dropped)] == [True, False]
    with reopened(store) as again:
        assert set(again.snapshot.accepted) == {parts.ADA.public}
    link = store.close("all contributed", parts.NOW)
    assert [commit.owner for commit in link.commits] == [parts.ADA.public]


def test_what_it_announces_is_not_fetched_and_what_is_being_fetched_is_dropped(store: RunStore) -> None:
    swarm = FakeSwarm(store.blobs)
    session = session_of(store, swarm)
    commit, blob = contribution(store, MAL)
    other, other_blob = contribution(store, MAL, seed=9)
    swarm.held = {blob_name(commit.value): blob, blob_name(other.value): other_blob}

    async def play() -> None:
        session.contributions.consider([commit], Membership(), parts.NOW)
        ban(store)  # the fetch has not begun
        await until_idle(session)
        session.contributions.consider([other], Membership(), parts.NOW)
        await until_idle(session)

    asyncio.run(play())
    assert not store.snapshot.accepted
    assert swarm.fetched == [blob_name(commit.value)]
    assert blob_name(commit.value) not in store.blobs


def test_a_volunteer_refuses_its_records_once_it_has_the_entry(store: RunStore, tmp_path: Path) -> None:
    train_round(store, parts.ADA, MAL)
    commit, _ = contribution(store, MAL)

    async def play(peer: Peer) -> None:
        await peer.catch_up()
        open_record(tagged(as_record(commit)), run=parts.RUN, signers=peer.keys.signers, now=parts.NOW)
        ban(store)
        await peer.catch_up()

    peer = played(store, tmp_path, play)
    assert peer.follower.tip == store.snapshot.tip
    for wire in (tagged(as_record(commit)), seal(MAL, parts.presence(MAL))):
        with pytest.raises(BannedKey):
            open_record(wire, run=parts.RUN, signers=peer.keys.signers, now=parts.NOW)
    access = KeyAccess(peer.keys, peer.keys.bans)
    assert access.of(PublicKey(MAL.public)) is Access.BANNED
    assert access.of(PublicKey(parts.STRANGER.public)) is Access.STRANGER


def test_the_banned_volunteer_ends_with_the_reason(store: RunStore, tmp_path: Path) -> None:
    async def play(peer: Peer) -> None:
        ban(store, parts.ADA)
        await peer.catch_up()

    with pytest.raises(KeyBanned, match="noise"):
        played(store, tmp_path, play)


def test_a_close_that_lists_it_is_not_folded(store: RunStore) -> None:
    """Also where the run key signed it."""
    before = store.snapshot
    commit, _ = contribution(store, MAL)
    ban(store)
    position = store.snapshot.position
    link = parts.link(
        [commit], previous=position.previous, height=position.height, standings=position.standings.name,
        certificate=store.snapshot.certificate,
    )  # fmt: skip
    with pytest.raises(StateError):
        check_step(position, link, store.charter)
    earlier = parts.link([commit], previous=before.position.previous, height=0)
    assert isinstance(check_step(before.position, earlier, store.charter), Link)


def test_an_unbanned_key_takes_part_again(store: RunStore) -> None:
    ban(store)
    leave_order(store.folder, StandingOrder(keys=(MAL.public,)))
    entry = Amending(store).entry(parts.NOW)
    assert entry is not None
    store.amend(entry, parts.NOW)
    accept(store, MAL, 3)
    assert [commit.owner for commit in store.close("", parts.NOW).commits] == [MAL.public]


def banning(*keys: Identity) -> Position:
    """The place after an entry that bans them."""
    charter = parts.charter(parts.run_spec(), parts.state())
    changes = tuple(
        Change(key=key, level="banned", cause="order") for key in sorted(each.public for each in keys)
    )
    start = first_position(charter)
    return start.after(parts.amendment(StandingChange, start, changes=changes).entry)


@HIVEMIND_WARNS
@pytest.mark.full("three daemons take more than 10 s to start")
def test_real_nodes_take_nothing_from_it_and_serve_it_nothing(tmp_path: Path) -> None:
    keys = [parts.keys() for _ in range(2)]

    async def play() -> None:
        async with (
            node(tmp_path, parts.AUTHORITY, keys=keys[0]) as coordinator,
            node(tmp_path, parts.ADA, coordinator, keys=keys[1]) as ada,
            node(tmp_path, MAL, coordinator) as mal,
        ):
            name = coordinator.blobs.put(b"blob" * 100)
            await mal.swarm.fetch(name, 1000, [coordinator.key])
            await mal.swarm.publish(presence(MAL, name="mal"))
            await until_present(coordinator, "mal")
            for each in keys:
                each.follow(banning(MAL))
            await until_present(coordinator)
            mal.blobs.remove(name)
            with pytest.raises(Unreachable):
                await mal.swarm.fetch(name, 1000, [coordinator.key])
            await mal.swarm.publish(presence(MAL, name="mal", later=1000))  # its own node stores it
            await ada.swarm.publish(presence(parts.ADA, later=1000))
            await until_present(coordinator, "ada")
            assert {each.name for each in await ada.swarm.peers()} == {"ada"}

    asyncio.run(asyncio.wait_for(play(), 120))


def test_the_run_keys_cannot_be_banned_out_of_the_network() -> None:
    keys = KeysInForce(parts.AUTHORITY.public, banning(parts.AUTHORITY, MAL))
    access = KeyAccess(keys, keys.bans)
    assert access.of(PublicKey(parts.AUTHORITY.public)) is Access.RUN
