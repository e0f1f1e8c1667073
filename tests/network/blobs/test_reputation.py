"""What a node remembers of those that served it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnraise.network.blobs.reputation import (
    FAULT_SECONDS,
    MAX_HOLDERS,
    FaultKind,
    HolderFault,
    Reputation,
    Trust,
)
from tests.support.transfers import key

ADA, BEN = key("ada"), key("ben")


@pytest.mark.parametrize(
    ("reason", "trust"),
    [
        (FaultKind.BAD_HASH, Trust.NONE),
        (FaultKind.BROKEN_PROMISE, Trust.NONE),
        (FaultKind.STALLED, Trust.LAST_RESORT),
        (FaultKind.DISCONNECTED, Trust.LAST_RESORT),
    ],
)
def test_a_fault_is_held_against_its_holder_for_a_while(reason: FaultKind, trust: Trust) -> None:
    reputation = Reputation()
    assert reputation.trust(ADA, 0) is Trust.GOOD
    assert reputation.record(HolderFault(ADA, reason), 100)
    assert reputation.trust(ADA, 100) is reputation.trust(ADA, 100 + FAULT_SECONDS[reason] - 1) is trust
    assert reputation.trust(BEN, 100) is Trust.GOOD
    assert reputation.trust(ADA, 100 + FAULT_SECONDS[reason]) is Trust.GOOD


def test_only_a_change_is_worth_telling() -> None:
    reputation = Reputation()
    told = [
        reputation.record(HolderFault(ADA, reason), 0)
        for reason in (
            FaultKind.DISCONNECTED,
            FaultKind.STALLED,
            FaultKind.BAD_HASH,
            FaultKind.BROKEN_PROMISE,
        )
    ]
    assert told == [True, False, True, False]
    assert reputation.trust(ADA, FAULT_SECONDS[FaultKind.STALLED] + 1) is Trust.NONE, "the worst counts"
    assert reputation.record(HolderFault(ADA, FaultKind.DISCONNECTED), FAULT_SECONDS[FaultKind.BAD_HASH]), (
        "and is told again later"
    )


@given(st.lists(st.tuples(st.integers(1, 10**6), st.floats(0, 100)), min_size=1))
def test_a_rate_lies_between_what_was_measured(pieces: list[tuple[int, float]]) -> None:
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
        reputation.record_transfer(ADA, 1, 1)  # still heard of
    assert len(reputation._memories) == MAX_HOLDERS
    assert reputation.trust(ADA, 1) is Trust.NONE
