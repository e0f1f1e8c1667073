"""200 keys of one stranger contribute to every round of an open run, before the volunteers do."""

from __future__ import annotations

import asyncio
from pathlib import Path

from barnraise.contract.log_entries import Change
from barnraise.contract.records import Commit, Presence
from barnraise.contract.spec import RunSpec, TrustSpec
from barnraise.contract.standing import Level
from barnraise.core.identity import Identity
from barnraise.core.ids import PublicKey
from barnraise.core.signed import Signed
from barnraise.fold.log import Link
from coordinator.rounds.membership import Membership
from coordinator.rounds.places import places
from coordinator.rounds.session import Session
from coordinator.store.next_entry import standing_change_of
from coordinator.store.run_store import RunStore
from tests.support import parts
from tests.support.coordinators import FakeSwarm, contribution, opened_store, session_of, until_idle

SYBILS = [Identity.from_seed(number.to_bytes(2, "big") * 16) for number in range(1000, 1200)]
HONEST = [Identity.from_seed(number.to_bytes(2, "big") * 16) for number in range(2000, 2008)]
NEWCOMER = Identity.from_seed(bytes([77]) * 32)
PLACES = 16
SHARE = 3
"""Places on probation: a fifth of 16."""


def open_run(*vouched: Identity) -> RunSpec:
    spec = parts.run_spec()
    trust = TrustSpec(mode="open", vouched=tuple(key.public for key in vouched))
    limited = spec.round.model_copy(update={"max_contributions": PLACES})
    return spec.model_copy(update={"trust": trust, "round": limited})


def presences(store: RunStore, keys: list[Identity]) -> list[Presence]:
    round = store.snapshot.round
    return [parts.presence(key, round=round, doing="training") for key in keys]


def announced(store: RunStore, swarm: FakeSwarm, keys: list[Identity]) -> list[Signed[Commit]]:
    found = []
    for seed, key in enumerate(keys):
        commit, blob = contribution(store, key, seed)
        swarm.held[commit.value.blob] = blob  # type: ignore[index]
        found.append(commit)
    return found


def played(store: RunStore, first: list[Identity], then: list[Identity]) -> tuple[Session, Link]:
    """One round in which all are present, and `first` announce before `then` do."""
    swarm = FakeSwarm(store.blobs)
    session = session_of(store, swarm)
    session.members = Membership.of(presences(store, first + then))

    async def play() -> None:
        for keys in (first, then):
            for _ in range(3):
                session.contributions.consider(announced(store, swarm, keys), session.members, parts.NOW)
                await until_idle(session)

    asyncio.run(play())
    return session, store.close("time is over", parts.NOW)


def owners(link: Link) -> set[PublicKey]:
    return {PublicKey(commit.owner) for commit in link.commits}


def publics(keys: list[Identity]) -> set[PublicKey]:
    return {key.public for key in keys}


def test_a_flood_takes_its_share_of_places_and_every_volunteer_has_one(tmp_path: Path) -> None:
    with opened_store(tmp_path, open_run(*HONEST)) as store:
        for _ in range(3):
            _, link = played(store, SYBILS, HONEST)
            store.fold(link)
            assert owners(link) >= publics(HONEST)
            assert len(owners(link) & publics(SYBILS)) <= SHARE


def test_a_flood_takes_its_share_of_weight(tmp_path: Path) -> None:
    with opened_store(tmp_path, open_run(*HONEST)) as store:
        _, link = played(store, SYBILS, HONEST)
        weight = dict(zip((PublicKey(c.owner) for c in link.commits), link.close.weights, strict=True))
        total, theirs = sum(weight.values()), sum(weight[key] for key in owners(link) & publics(SYBILS))
        assert 5 * theirs <= total


def test_without_a_bound_it_takes_the_round(tmp_path: Path) -> None:
    """So that these tests can fail: where nobody is trusted, the first to come have the places."""
    with opened_store(tmp_path, open_run()) as store:
        _, link = played(store, SYBILS, HONEST)
        assert len(owners(link) & publics(SYBILS)) == PLACES


def test_a_flood_makes_no_rotation_and_is_not_waited_for(tmp_path: Path) -> None:
    with opened_store(tmp_path, open_run(*HONEST)) as store:
        session, _ = played(store, [], HONEST)
        run = store.snapshot
        session.members = Membership.of(presences(store, SYBILS + HONEST))
        commits = announced(store, FakeSwarm(store.blobs), SYBILS)
        seen = session.open_round.situation(parts.NOW, session.members, frozenset(), commits)
        assert run.round == 1
        assert set(seen.expected) >= publics(HONEST)
        assert session.open_round.next_turns(len(session.members)) == 1


def change(store: RunStore, key: Identity, level: Level, work: int) -> None:
    changes = [Change(key=key.public, level=level, work=work, cause="work")]
    store.amend(standing_change_of(store.snapshot, changes, (), parts.NOW), parts.NOW)


def test_a_newcomer_with_audited_work_comes_before_a_flood(tmp_path: Path) -> None:
    with opened_store(tmp_path, open_run(*HONEST)) as store:
        change(store, NEWCOMER, "probation", 1)
        _, link = played(store, [*SYBILS, NEWCOMER], HONEST)
        assert NEWCOMER.public in owners(link)
        assert len(owners(link) & {*publics(SYBILS), NEWCOMER.public}) <= SHARE


def test_keys_without_work_leave_half_of_the_places_to_those_with_some(tmp_path: Path) -> None:
    with opened_store(tmp_path, open_run(*HONEST)) as store:
        change(store, NEWCOMER, "probation", 1)
        _, link = played(store, SYBILS, [NEWCOMER, *HONEST])
        assert NEWCOMER.public in owners(link)
        assert len(owners(link) & publics(SYBILS)) == 2


def test_who_served_probation_is_bounded_no_longer(tmp_path: Path) -> None:
    with opened_store(tmp_path, open_run(*HONEST)) as store:
        change(store, NEWCOMER, "trusted", 20)
        _, link = played(store, SYBILS, [*HONEST, NEWCOMER])
        assert NEWCOMER.public in owners(link)


def test_a_suspended_key_shares_the_places_of_probation(tmp_path: Path) -> None:
    with opened_store(tmp_path, open_run(*HONEST)) as store:
        change(store, HONEST[0], "suspended", 3)
        open_to = places(store.snapshot, [key.public for key in HONEST])
        assert open_to.bounded
        assert open_to.has(HONEST[0].public)
        taken = places(store.snapshot, [key.public for key in HONEST], [key.public for key in SYBILS[:SHARE]])
        assert not taken.has(HONEST[0].public)
        assert taken.has(HONEST[1].public)
