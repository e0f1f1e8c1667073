"""One key claims 2^40 tokens: it weighs what its limits allow, and nobody accepts a close that says more.

Without limits it decided rounds alone: its weight was 1.000000.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from barnraise.contract.close_rules import check_close
from barnraise.contract.field_types import MAX_TOKENS
from barnraise.contract.records import blob_name
from barnraise.contract.sample_ranges import SampleRange
from barnraise.contract.standing import Standing, standings_of
from barnraise.contract.tip import genesis_tip
from barnraise.core.errors import StateError
from barnraise.core.identity import Identity
from barnraise.core.ids import PublicKey
from barnraise.core.signed import sign
from barnraise.fold.aggregators import Contribution
from barnraise.fold.codec import Decoder
from barnraise.fold.fold import fold
from barnraise.fold.log import Link, advance, check_step
from barnraise.fold.replay import Cause, Difference, Replay
from coordinator.rounds.candidate_check import check_candidate
from coordinator.store.next_entry import close_of
from coordinator.store.run_store import RunStore
from scripts.benchmarks.attacks.kinds import INFLATED
from tests.support import parts
from tests.support.attacked_swarm import attacked
from tests.support.coordinators import contribution, opened_store

OTHERS = tuple(Identity.from_seed(bytes([n]) * 32) for n in range(20, 27))
ATTACKER = parts.STRANGER
EVERYTHING = {
    "tokens": MAX_TOKENS,
    "samples": MAX_TOKENS,
    "ranges": (SampleRange(round=0, start=0, count=MAX_TOKENS),),
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    """A round of seven honest contributions and one that claims all tokens of the world."""
    with opened_store(tmp_path) as made:
        for seed, owner in enumerate((*OTHERS, ATTACKER)):
            commit, blob = contribution(made, owner, seed)
            made.blobs.put(blob)
            if owner is ATTACKER:
                commit = sign(owner, commit.value.model_copy(update=EVERYTHING))
            made.accept(commit, parts.NOW)
        yield made


def test_it_weighs_a_quarter_at_most(store: RunStore) -> None:
    link = store.close("all contributed", parts.NOW)
    weights = dict(zip((commit.owner for commit in link.commits), link.close.weights, strict=True))
    assert weights[ATTACKER.public] <= sum(weights.values()) / 4
    honest = {commit.owner: commit.tokens for commit in link.commits if commit.owner != ATTACKER.public}
    assert all(weights[owner] == tokens for owner, tokens in honest.items())


def test_without_limits_it_decides_the_round(store: RunStore) -> None:
    link, state = store.close("all contributed", parts.NOW), store.state
    layout, spec = state.layout, store.charter.spec
    blobs = [store.blobs.get(blob_name(commit)) for commit in link.commits]
    decoders = [Decoder(blob, spec.codec, layout) for blob in blobs]
    place = [commit.owner for commit in link.commits].index(ATTACKER.public)
    claimed = [
        Contribution.unlimited(decoder, commit.tokens)
        for decoder, commit in zip(decoders, link.commits, strict=True)
    ]
    alone = fold(state, [claimed[place]], spec)
    undefended = fold(state, claimed, spec)
    _, defended = advance(genesis_tip(store.charter), state, link, blobs, store.charter)
    name = next(iter(alone.params))
    distance = {
        what: float(np.abs(found.params[name] - alone.params[name]).max())
        for what, found in (("undefended", undefended), ("defended", defended))
    }
    assert distance["undefended"] < 1e-6 < 1e-4 < distance["defended"]


@pytest.mark.parametrize("change", [1, -1, 1000])
def test_nobody_accepts_other_weights(store: RunStore, change: int) -> None:
    close = store.candidate("all contributed", parts.NOW)
    false = close.model_copy(update={"weights": (close.weights[0] + change, *close.weights[1:])})
    with pytest.raises(StateError):
        check_candidate(false, store.snapshot, None, parts.NOW, store.blob_sizes)
    commits = store.close("all contributed", parts.NOW).commits
    link = Link(false, commits, parts.votes(false))
    with pytest.raises(StateError):
        check_step(store.snapshot.position, link, store.charter)
    replay = Replay.from_base(store.charter, store.state)
    assert isinstance(replay, Replay)
    found = replay.check(link)
    assert isinstance(found, Difference)
    assert found.cause is Cause.COORDINATOR


def test_a_suspended_key_has_no_weight(store: RunStore) -> None:
    """A close that gives it one is refused."""
    suspended = standings_of({ATTACKER.public: Standing("suspended")})
    run = replace(store.snapshot, position=replace(store.snapshot.position, standings=suspended))
    close, commits = close_of(run, "all contributed", parts.NOW, 1)
    place = [commit.owner for commit in commits].index(ATTACKER.public)
    assert close.weights[place] == 0
    check_candidate(close, run, None, parts.NOW, store.blob_sizes)
    weighty = tuple(64 if each == place else weight for each, weight in enumerate(close.weights))
    with pytest.raises(StateError):
        check_candidate(close.model_copy(update={"weights": weighty}), run, None, parts.NOW, store.blob_sizes)


def test_a_round_of_suspended_keys_does_not_close(store: RunStore) -> None:
    """Its weights would sum to 0: nobody signs such a close, and the round waits for others."""
    owners = [PublicKey(owner.public) for owner in (*OTHERS, ATTACKER)]
    suspended = standings_of(dict.fromkeys(owners, Standing("suspended")))
    run = replace(store.snapshot, position=replace(store.snapshot.position, standings=suspended))
    with pytest.raises(ValueError, match="no contribution has a weight"):
        close_of(run, "all contributed", parts.NOW, 1)
    one_left = standings_of(dict.fromkeys(owners[:-1], Standing("suspended")))
    run = replace(run, position=replace(run.position, standings=one_left))
    close, commits = close_of(run, "all contributed", parts.NOW, 1)
    check_candidate(close, run, None, parts.NOW, store.blob_sizes)
    two = run.charter.spec.round.model_copy(update={"min_contributions": 2})
    spec = run.charter.spec.model_copy(update={"round": two})
    with pytest.raises(StateError):
        check_close(close, commits, one_left, spec)


def test_it_harms_an_undefended_run() -> None:
    assert attacked(INFLATED, "none").share < 0.5


def test_an_open_run_keeps_its_gain() -> None:
    assert attacked(INFLATED, "audits").share >= 0.9
