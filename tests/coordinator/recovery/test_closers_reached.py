"""How many closers a recovery has to reach before the run key may resume."""

from __future__ import annotations

import pytest

from barnraise.core.errors import StateError
from barnraise.core.ids import PublicKey
from coordinator.recovery.closers_reached import check_closers, still_needed

OWN, *OTHERS = (PublicKey(digit * 64) for digit in "abcdef")


@pytest.mark.parametrize(
    ("others", "reached", "needed"),
    [
        (0, 0, 0),  # no closers
        (1, 0, 0),  # of two, one alone is no majority
        (2, 0, 1),
        (2, 1, 0),
        (3, 0, 1),
        (4, 0, 2),
        (4, 1, 1),
        (4, 2, 0),
        (4, 4, 0),
    ],
)
def test_no_majority_may_be_left_among_those_that_are_not_reached(
    others: int, reached: int, needed: int
) -> None:
    named = (OWN, *OTHERS[:others]) if others else ()
    assert still_needed(named, OWN, OTHERS[:reached]) == needed
    if needed:
        with pytest.raises(StateError, match="not reached") as refused:
            check_closers(named, OWN, OTHERS[:reached])
        assert "--invite-node" in refused.value.fix
        assert "--without-closers" in refused.value.fix
    else:
        check_closers(named, OWN, OTHERS[:reached])


def test_a_key_that_is_no_closer_counts_for_nothing() -> None:
    assert still_needed((OWN, *OTHERS[:2]), OWN, OTHERS[3:]) == 1
