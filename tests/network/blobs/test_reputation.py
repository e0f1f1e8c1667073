"""What a node remembers of the holders that served it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnraise.network.blobs.reputation import (
    MAX_HOLDERS,
    FaultKind,
    HolderFault,
    Reputation,
    Trust,
    remembered_for,
)
from tests.support.transfers import key

ADA, BEN = key("ada"), key("ben")


@pytest.mark.parametrize(
    ("kind", "trust"),
    [
        (FaultKind.BAD_HASH, Trust.NONE),
        (FaultKind.BROKEN_PROMISE, Trust.NONE),
        (FaultKind.FALSE_COMMIT, Trust.NONE),
        (FaultKind.STALLED, Trust.LAST_RESORT),
        (FaultKind.DISCONNECTED, Trust.LAST_RESORT),
    ],
)
def test_a_fault_lowers_the_trust_in_its_holder_for_a_while(kind: FaultKind, trust: Trust) -> None:
    reputation, until = Reputation(), 100 + remembered_for(kind)
    assert reputation.trust(ADA, 0) is Trust.GOOD
    assert reputation.record(HolderFault(ADA, kind), 100)
    assert reputation.trust(ADA, 100) is reputation.trust(ADA, until - 1) is trust
    assert reputation.trust(BEN, 100) is Trust.GOOD
    assert reputation.trust(ADA, until) is Trust.GOOD


def test_bad_luck_is_forgiven_sooner_than_bad_faith() -> None:
    stalled, disconnected = map(remembered_for, (FaultKind.STALLED, FaultKind.DISCONNECTED))
    assert disconnected < stalled < remembered_for(FaultKind.BAD_HASH)


def test_only_a_loss_of_trust_is_worth_a_log_line() -> None:
    reputation = Reputation()
    lowered = [
        reputation.record(HolderFault(ADA, kind), 0)
        for kind in (
            FaultKind.DISCONNECTED,
            FaultKind.STALLED,
            FaultKind.BAD_HASH,
            FaultKind.BROKEN_PROMISE,
        )
    ]
    assert lowered == [True, False, True, False]
    after_stall, after_all = remembered_for(FaultKind.STALLED) + 1, remembered_for(FaultKind.BAD_HASH)
    assert reputation.trust(ADA, after_stall) is Trust.NONE, "the worst counts"
    assert reputation.record(HolderFault(ADA, FaultKind.DISCONNECTED), after_all), "and is logged again later"


@given(st.lists(st.tuples(st.integers(1, 10**6), st.floats(0, 100)), min_size=1))
def test_a_rate_lies_between_the_measured_ones(pieces: list[tuple[int, float]]) -> None:
    reputation = Reputation()
    assert reputation.rate(ADA) is None
    rates = [count / max(seconds, 1e-3) for count, seconds in pieces]
    for count, seconds in pieces:
        reputation.record_transfer(ADA, count, seconds)
    rate = reputation.rate(ADA)
    assert rate is not None
    assert min(rates) * (1 - 1e-9) <= rate <= max(rates) * (1 + 1e-9)


def test_strangers_do_not_fill_the_memory() -> None:
    reputation = Reputation()
    reputation.record(HolderFault(ADA, FaultKind.BAD_HASH), 0)
    for number in range(2 * MAX_HOLDERS):
        reputation.record(HolderFault(key(str(number)), FaultKind.DISCONNECTED), 0)
        reputation.record_transfer(ADA, 1, 1)  # still in use
    assert len(reputation._memories) == MAX_HOLDERS
    assert reputation.trust(ADA, 1) is Trust.NONE
