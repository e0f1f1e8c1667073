"""Correctly signed records with numbers that nothing can mean: what is computed from them stays in bounds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from barnraise.contract.field_types import MAX_COUNT, MAX_TOKENS, total
from barnraise.contract.records import Commit, Presence
from barnraise.core.identity import Identity
from coordinator.rounds.membership import Membership
from coordinator.store.run_store import RunStore
from tests.support import parts, virtual_time
from tests.support.attacked import Attacked, wire_of
from tests.support.coordinators import api_of, contribution, opened_store, reopened
from tests.support.transfers import Net


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with opened_store(tmp_path) as made:
        yield made


def changed(payload: bytes, **values: object) -> bytes:
    return json.dumps(json.loads(payload) | values, separators=(",", ":")).encode()


HEARTBEATS: list[dict[str, object]] = [
    {"tokens": 2**53 - 1},
    {"tokens": 2**53},
    {"tokens": 10**400},
    {"tokens": -1},
    {"tokens": 1.5},
    {"tokens_per_second": 1e308},
    {"tokens_per_second": 10**9 + 1},
    {"tokens_per_second": float("inf")},
    {"tokens_per_second": float("nan")},
    {"tokens_per_second": -1.0},
    {"parts": 0},
    {"parts": 2**40},
    {"keeps": -1},
    {"keeps": 2**64},
    {"round": 2**60},
    {"at": 2**60},
    {"at": -1},
]
COMMITS: list[dict[str, object]] = [
    {"tokens": 0},
    {"tokens": 2**53},
    {"tokens": 10**400},
    {"samples": 2**53},
    {"size": 0},
    {"size": 2**60},
    {"loss": 1e308},
    {"loss": float("nan")},
    {"loss": float("inf")},
    {"loss": -1.0},
    {"round": -1},
]


def test_absurd_numbers_are_refused_and_the_round_closes_without(store: RunStore, tmp_path: Path) -> None:
    async def scene() -> None:
        attacked = Attacked.of(store, Net(tmp_path / "net"))
        attacked.honest(parts.ADA, 1)
        beat, commit = parts.presence(parts.BEN, round=0).payload, contribution(store, parts.BEN, 2)[0]
        for wrong in HEARTBEATS:
            assert not attacked.swarm.receive(b"P" + wire_of(parts.BEN, Presence, changed(beat, **wrong))), (
                wrong
            )
        for wrong in COMMITS:
            payload = changed(commit.value.payload, **wrong)
            assert not attacked.swarm.receive(b"C" + wire_of(parts.BEN, Commit, payload)), wrong
        assert attacked.present(parts.ADA)
        await attacked.ticks()
        assert attacked.folded == [{parts.ADA.public}]

    virtual_time.run(scene())


def test_the_sum_of_the_largest_heartbeats_fits_the_head(store: RunStore, tmp_path: Path) -> None:
    """16,384 heartbeats count, and each may claim 2^40 - 1 tokens."""

    async def scene() -> None:
        attacked = Attacked.of(store, Net(tmp_path / "net"))
        claims = {"tokens": MAX_TOKENS, "tokens_per_second": 1e9, "keeps": 2**39, "parts": 2**16}
        assert attacked.present(parts.ADA, **claims)
        beat = attacked.swarm.cache.present(parts.NOW)[0]
        many = [beat.model_copy(update={"owner": f"{number:064x}"}) for number in range(16_384)]
        attacked.session.members = Membership.of(many)
        await attacked.session.announce_head()
        assert attacked.session.head().tokens <= MAX_COUNT
        assert total(beat.tokens for beat in many) == MAX_COUNT
        assert api_of(attacked.session).status().peers

    virtual_time.run(scene())


def test_the_tokens_of_a_run_end_at_what_a_snapshot_holds(store: RunStore, tmp_path: Path) -> None:
    """Two keys claim the most in each round, with as many samples, and the largest loss."""
    liars: list[Identity] = [parts.ADA, parts.BEN]

    async def scene() -> None:
        attacked = Attacked.of(store, Net(tmp_path / "net"))
        for round in range(2):
            for owner in liars:
                commit, blob = contribution(store, owner, 2 * round + liars.index(owner))
                attacked.node(owner).holds(blob)
                ranges = [{"round": round, "start": 0, "count": MAX_TOKENS}]
                claims = {"tokens": MAX_TOKENS, "samples": MAX_TOKENS, "ranges": ranges, "loss": 100.0}
                payload = changed(commit.value.payload, **claims)
                assert attacked.swarm.receive(b"C" + wire_of(owner, Commit, payload))
            for owner in liars:
                assert attacked.present(owner, at=attacked.swarm.now)
            await attacked.ticks()
            attacked.later(1)

    virtual_time.run(scene())
    assert store.snapshot.tip.round == 2
    assert store.snapshot.tokens == 4 * MAX_TOKENS
    store.save(parts.NOW)
    with reopened(store) as again:
        assert again.snapshot.tip == store.snapshot.tip
