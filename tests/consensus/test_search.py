"""No order, loss or repetition of messages, and no crash, gets two entries certified by three closers."""

from __future__ import annotations

import pytest

from barnraise.consensus.events import Transition
from tests.support.closer_search import Bounds, Search

EVERYTHING = [
    Bounds(ballots=3),
    Bounds(ballots=3, checks=True),
    Bounds(ballots=2, refusals_arrive=True),
    Bounds(ballots=2, votes_arrive=True, crashes=False),
]


@pytest.mark.parametrize("bounds", EVERYTHING, ids=str)
def test_three_closers_never_certify_two_entries(bounds: Bounds) -> None:
    search = Search(bounds)
    search.run()
    assert search.forks == 0
    assert len(search.certified) == min(bounds.ballots, 3), "each closer's entry is certified in some history"
    assert search.lies == 0


@pytest.mark.full("ten times the states: four ballots, and a crash at each count of votes")
@pytest.mark.slow
@pytest.mark.parametrize(
    "bounds", [Bounds(ballots=4, crashes=False), Bounds(ballots=2, votes_arrive=True)], ids=str
)
def test_three_closers_never_certify_two_entries_in_more_ballots(bounds: Bounds) -> None:
    search = Search(bounds)
    search.run()
    assert search.forks == 0
    assert search.lies == 0


def test_a_closer_without_its_record_would_certify_two_entries() -> None:
    """The search finds a fork where there is one: so a closer that lost its record gets another key."""
    search = Search(Bounds(ballots=2, amnesia=True))
    search.run()
    assert search.forks == 1
    assert search.lies, "the fork is proved by what was signed"


def test_a_search_takes_the_transitions_of_an_agreement() -> None:
    search = Search(Bounds(ballots=2, votes_arrive=True, crashes=False))
    search.run()
    core = {Transition.PROMISED, Transition.VOTED, Transition.CHOSE, Transition.REPEATED, Transition.DECIDED}
    assert search.transitions >= core
