"""What a node remembers of those that served it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnraise.network.blobs.reputation import MAX_HOLDERS, SECONDS, Fault, Reason, Standing, Trust
from tests.support.carriers import key

ADA, BEN = key("ada"), key("ben")


@pytest.mark.parametrize(
    ("reason", "trust"),
    [
        (Reason.JUNK, Trust.NONE),
        (Reason.LIED, Trust.NONE),
        (Reason.STALLED, Trust.LAST),
        (Reason.GONE, Trust.LAST),
    ],
)
def test_a_fault_is_held_against_its_holder_for_a_while(reason: Reason, trust: Trust) -> None:
    standing = Standing()
    assert standing.trust(ADA, 0) is Trust.GOOD
    assert standing.note(Fault(ADA, reason), 100)
    assert standing.trust(ADA, 100) is standing.trust(ADA, 100 + SECONDS[reason] - 1) is trust
    assert standing.trust(BEN, 100) is Trust.GOOD
    assert standing.trust(ADA, 100 + SECONDS[reason]) is Trust.GOOD


def test_only_a_change_is_worth_telling() -> None:
    standing = Standing()
    told = [
        standing.note(Fault(ADA, reason), 0)
        for reason in (Reason.GONE, Reason.STALLED, Reason.JUNK, Reason.LIED)
    ]
    assert told == [True, False, True, False]
    assert standing.trust(ADA, SECONDS[Reason.STALLED] + 1) is Trust.NONE, "the worst counts"
    assert standing.note(Fault(ADA, Reason.GONE), SECONDS[Reason.JUNK]), "and is told again later"


@given(st.lists(st.tuples(st.integers(1, 10**6), st.floats(0, 100)), min_size=1))
def test_a_rate_lies_between_what_was_measured(pieces: list[tuple[int, float]]) -> None:
    standing = Standing()
    assert standing.rate(ADA) is None
    rates = [count / max(seconds, 1e-3) for count, seconds in pieces]
    for count, seconds in pieces:
        standing.measured(ADA, count, seconds)
    rate = standing.rate(ADA)
    assert rate is not None
    assert min(rates) * (1 - 1e-9) <= rate <= max(rates) * (1 + 1e-9)


def test_strangers_do_not_fill_the_memory() -> None:
    standing = Standing()
    standing.note(Fault(ADA, Reason.JUNK), 0)
    for number in range(2 * MAX_HOLDERS):
        standing.note(Fault(key(str(number)), Reason.GONE), 0)
        standing.measured(ADA, 1, 1)  # still heard of
    assert len(standing._memories) == MAX_HOLDERS
    assert standing.trust(ADA, 1) is Trust.NONE
