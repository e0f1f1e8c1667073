"""The longest log that volunteers hold is found by their heartbeats, and checked before it counts."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from barnraise.contract.certificates import certify
from barnraise.contract.double_signing import Certified
from barnraise.contract.log_entries import parse_entry, vote_on
from barnraise.contract.records import Presence
from barnraise.core.identity import Identity
from barnraise.core.ids import BlobHash, RunId
from barnraise.runtime.blob_store import BlobStore
from coordinator.recovery.chain import Chain
from coordinator.recovery.holders import Holders
from coordinator.rounds.log_watch import AT_ONCE, LogIsBehind, LogWatch
from coordinator.rounds.membership import Membership
from coordinator.store.run_store import RunStore
from tests.support import parts
from tests.support.coordinators import FakeSwarm, fold_round, head_of, opened_store, reopened


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with opened_store(tmp_path / "run") as made:
        fold_round(made, parts.BEN)
        fold_round(made, parts.ADA)
        yield made


def held_by(store: RunStore, identity: Identity = parts.ADA) -> tuple[Presence, dict[BlobHash, bytes]]:
    """The heartbeat of a volunteer that has a copy of the log of `store`, and what it serves."""
    run = store.snapshot
    assert run.certificate is not None
    entry = parse_entry(store.blobs.get(run.log[-1].name))
    newest = Certified(vote=vote_on(entry, 0), certificate=run.certificate).payload
    served = {logged.name: store.blobs.get(logged.name) for logged in run.log}
    named = store.blobs.put(newest)
    served |= {named: newest, BlobHash(store.charter.digest): store.charter.payload}
    return parts.presence(identity).model_copy(update={"log": named}), served


def longest(
    folder: Path,
    known: RunStore | None,
    *held: tuple[Presence, dict[BlobHash, bytes]],
    key: Identity | None = None,
) -> Chain | None:
    blobs = BlobStore(folder)
    swarm = FakeSwarm(blobs, present=[presence for presence, _ in held])
    for _, served in held:
        swarm.held |= served
    holders = Holders(swarm.as_swarm, blobs, key or parts.AUTHORITY, RunId(parts.RUN), seconds=0.0, pause=0.0)

    async def ask() -> Chain | None:
        await holders.ask()
        return await holders.longest(None if known is None else known.snapshot.signed_charter)

    return asyncio.run(ask())


@pytest.mark.parametrize("knows_charter", [False, True])
def test_the_log_is_taken_from_a_volunteer(store: RunStore, tmp_path: Path, knows_charter: bool) -> None:
    chain = longest(tmp_path / "blobs", store if knows_charter else None, held_by(store))
    assert chain is not None
    assert chain.charter.wire == store.snapshot.signed_charter.wire
    assert [step.hash for step in chain.steps] == [logged.name for logged in store.snapshot.log]


def test_the_longest_that_verifies_is_taken(store: RunStore, tmp_path: Path) -> None:
    shorter = held_by(store, parts.BEN)
    fold_round(store, parts.BEN)
    whole = held_by(store)
    chain = longest(tmp_path / "blobs", None, shorter, whole)
    assert chain is not None
    assert chain.position.height == 3
    lacking = whole[0], {**whole[1], store.snapshot.log[-1].name: b"junk"}
    chain = longest(tmp_path / "others", None, shorter, lacking)
    assert chain is not None
    assert chain.position.height == 2


def test_an_end_that_is_certified_wrongly_does_not_hide_the_right_one(
    store: RunStore, tmp_path: Path
) -> None:
    hostile, served = held_by(store, parts.BEN)
    vote = vote_on(parse_entry(store.blobs.get(store.snapshot.log[-1].name)), 0)
    forged = Certified(vote=vote, certificate=certify([parts.BEN], vote)).payload
    named = store.blobs.put(forged)
    hostile = hostile.model_copy(update={"log": named})
    chain = longest(tmp_path / "blobs", store, (hostile, served | {named: forged}), held_by(store))
    assert chain is not None
    assert chain.position.height == 2


def test_what_another_key_signed_does_not_count(store: RunStore, tmp_path: Path) -> None:
    assert longest(tmp_path / "blobs", None, held_by(store), key=parts.STRANGER) is None


def test_closers_that_certified_what_a_head_names_are_asked_too(store: RunStore, tmp_path: Path) -> None:
    blobs, head = BlobStore(tmp_path / "blobs"), head_of(store)
    assert head.certificate is not None
    [(_, text)] = head.certificate.signatures
    votes = ((parts.ADA.public, text),)
    by_ada = head.certificate.model_copy(update={"signatures": votes})
    swarm = FakeSwarm(blobs, published=[head.model_copy(update={"certificate": by_ada})])
    holders = Holders(swarm.as_swarm, blobs, parts.AUTHORITY, RunId(parts.RUN), seconds=0.0, pause=0.0)

    async def ask() -> Chain | None:
        await holders.ask()
        return await holders.longest(store.snapshot.signed_charter)

    assert asyncio.run(ask()) is None, "nobody serves it"
    assert swarm.asked_of == {parts.ADA.public}


def test_closers_that_answer_are_remembered_over_several_looks(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path / "blobs")
    swarm, looks = FakeSwarm(blobs), list[str]()
    own, ada, ben = parts.AUTHORITY.public, parts.ADA.public, parts.BEN.public
    swarm.answering = {own, parts.STRANGER.public}

    async def search() -> None:
        looks.append("dialled")

    holders = Holders(
        swarm.as_swarm,
        blobs,
        parts.AUTHORITY,
        RunId(parts.RUN),
        seconds=0.0,
        pause=0.0,
        closers=(own, ada, ben),
        search=search,
    )
    asyncio.run(holders.ask())
    assert holders.reached == set()
    swarm.answering = {ben}
    asyncio.run(holders.ask())
    assert holders.reached == {ben}
    swarm.answering = set()
    asyncio.run(holders.ask())
    assert holders.reached == {ben}
    assert looks == ["dialled"] * 3


def watch(store: RunStore, *held: tuple[Presence, dict[BlobHash, bytes]]) -> LogWatch:
    """What a coordinator with `store` concludes from heartbeats."""
    swarm = FakeSwarm(store.blobs)
    for _, served in held:
        swarm.held |= served
    looking = LogWatch(store, swarm.as_swarm)

    async def look() -> None:
        members = Membership.of([presence for presence, _ in held])
        await looking.look(members)
        await asyncio.sleep(0)
        while looking._asking:
            await asyncio.wait(looking._asking)
            await looking.look(members)

    asyncio.run(look())
    return looking


def test_a_volunteer_with_the_same_log_confirms_it(store: RunStore) -> None:
    assert watch(store, held_by(store)).confirmed


def test_a_volunteer_that_is_behind_says_nothing_new(store: RunStore) -> None:
    behind = held_by(store)
    fold_round(store, parts.BEN)
    assert not watch(store, behind).confirmed


def test_a_volunteer_with_more_of_the_log_shows_that_the_journal_is_behind(
    store: RunStore, tmp_path: Path
) -> None:
    shutil.copytree(store.folder, tmp_path / "old")
    fold_round(store, parts.BEN)
    ahead = held_by(store)
    with reopened(replace(store, folder=tmp_path / "old")) as old, pytest.raises(LogIsBehind):
        watch(old, ahead)


def test_volunteers_that_do_not_answer_do_not_hide_that_the_journal_is_behind(
    store: RunStore, tmp_path: Path
) -> None:
    shutil.copytree(store.folder, tmp_path / "old")
    fold_round(store, parts.BEN)
    ahead, served = held_by(store)
    silent = [Identity.from_seed(bytes([100 + n]) * 32) for n in range(4 * AT_ONCE)]
    unserved = [parts.presence(each).model_copy(update={"log": each.public}) for each in silent]

    async def looks(old: RunStore) -> None:
        watching = LogWatch(old, FakeSwarm(old.blobs, held=served).as_swarm, random=Random(1))
        for _ in range(100):
            await watching.look(Membership.of([*unserved, ahead]))
            await asyncio.gather(*watching._asking, return_exceptions=True)

    with reopened(replace(store, folder=tmp_path / "old")) as old, pytest.raises(LogIsBehind):
        asyncio.run(looks(old))


def test_what_a_resume_made_void_is_no_news(store: RunStore, tmp_path: Path) -> None:
    shutil.copytree(store.folder, tmp_path / "old")
    fold_round(store, parts.BEN)
    ahead = held_by(store)
    with reopened(replace(store, folder=tmp_path / "old")) as old:
        old.resume(parts.NOW)
        watch(old, ahead)


def test_a_blob_of_the_run_that_a_volunteer_names_stays(store: RunStore) -> None:
    hostile, _ = held_by(store)
    entry = store.snapshot.log[-1].name
    for name in (entry, *store.snapshot.names()):
        watch(store, (hostile.model_copy(update={"log": name}), {}))
        assert name in store.blobs


def test_a_volunteer_that_names_no_certificate_is_asked_once(store: RunStore) -> None:
    hostile, served = held_by(store)
    names = [store.blobs.put(b"{}"), store.blobs.put(b"[]")]
    looking = watch(store, *((hostile.model_copy(update={"log": name}), served) for name in names))
    assert hostile.owner in looking._refused
