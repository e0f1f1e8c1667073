"""When a round closes, and why."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnraise.contract.rounds import Window
from barnraise.contract.spec import RoundSpec
from barnraise.core.ids import Millis, PublicKey, Round
from coordinator.reasons.rounds import (
    AllContributed,
    AllSitOut,
    AwaitingContributions,
    CloseReason,
    DeadlinePassed,
    FetchingLast,
    FirstVolunteers,
    MoreVolunteersNeeded,
    NoVolunteers,
    ReopenReason,
    RoundFull,
    RunHalted,
    RunOver,
    SittingOut,
    StillTraining,
    TooFewInTime,
    WaitReason,
)
from coordinator.rounds.closing import CloseNow, Decision, Reopen, Situation, Wait, decide_close
from coordinator.rounds.conduct import Conduct
from tests.support.parts import ADA, commit

OPENS = 1_000_000
SPEC = RoundSpec(seconds=100.0, grace=20.0)
KEYS = {name: PublicKey(f"{number:064x}") for number, name in enumerate(["ada", "ben", "cem", "dan", "eva"])}
WORK = commit(ADA)


def after(seconds: float) -> Millis:
    return Millis(OPENS + round(seconds * 1000))


def situation(
    accepted: str = "",
    expected: str = "",
    pending: str = "",
    enough: int = 1,
    target: int | None = None,
    most: int = 32,
    late: str = "",
    weightless: str = "",
) -> Situation:
    """Names are separated by spaces."""
    spec = SPEC.model_copy(update={"target_tokens": target, "max_contributions": most})
    return Situation(
        now=after(0),
        window=Window(Round(3), Millis(OPENS), spec),
        accepted={KEYS[name]: WORK for name in accepted.split()},
        pending=frozenset(KEYS[name] for name in pending.split()),
        expected={KEYS[name]: name for name in expected.split()},
        late={KEYS[name]: name for name in late.split()},
        min_contributions=enough,
        weightless=frozenset(KEYS[name] for name in weightless.split()),
        conduct=Conduct.first(spec),
        last_accepted=after(0),
        swarm_tokens=100,
    )


EMPTY = replace(situation(), deserted=True)
ADA_NAMED = {KEYS["ada"]: "ada"}
TWO = {**ADA_NAMED, KEYS["ben"]: "ben"}
RULES: list[tuple[float, Situation, Decision]] = [
    (5, situation("ada", "ada"), CloseNow(AllContributed(1))),
    (5, situation("ada ben", "ada"), CloseNow(AllContributed(2))),
    (5, situation("ada", ""), CloseNow(AllContributed(1))),
    (5, situation("ada", "ada ben"), Wait(StillTraining(("ben",), 0, 115))),
    (5, situation("ada", "ada", late="ben"), CloseNow(AllContributed(1))),
    (105, situation("ada", "", late="ada ben"), Wait(AwaitingContributions(1, ("ben",), 0, 15))),
    (105, situation("ada", "ada", late="ben", enough=2), Wait(AwaitingContributions(1, ("ben",), 0, 15))),
    (105, situation("", "", late="ben"), Wait(AwaitingContributions(0, ("ben",), 0, 15))),
    (105, situation("ada ben", "", late="ada ben"), CloseNow(AllContributed(2))),
    (5, situation("ada", "ada ben", target=100), Wait(AwaitingContributions(1, ("ben",), 0, 115))),
    (105, situation("ada", "ada ben"), Wait(AwaitingContributions(1, ("ben",), 0, 15))),
    (105, situation("ada", "ada", "ben"), Wait(FetchingLast(1, 15))),
    (5, situation("ada", "ada", "ben"), Wait(FetchingLast(1, 115))),
    (120, situation("ada", "ada ben"), CloseNow(DeadlinePassed(1, ("ben",), 0))),
    (120, situation("ada", "ada", "ben"), CloseNow(DeadlinePassed(1, (), 0))),
    (120, situation("ada", "ada ben cem dan eva"), CloseNow(DeadlinePassed(1, ("ben", "cem", "dan"), 1))),
    (120, situation("", "ada"), Reopen(TooFewInTime(0, 1, 100))),
    (120, situation("ada", "ada ben", enough=2), Reopen(TooFewInTime(1, 2, 100))),
    (5, situation("ada", "ada", enough=2), Wait(MoreVolunteersNeeded(1, 2))),
    (5, situation("ada", "ada", weightless="ada"), Wait(MoreVolunteersNeeded(0, 1))),
    (5, situation("ada", "ada", weightless="ada", most=1), Wait(MoreVolunteersNeeded(0, 1))),
    (5, situation("ada ben", "ada ben", weightless="ada", most=2), CloseNow(AllContributed(1))),
    (120, situation("ada", "ada ben", weightless="ada"), Reopen(TooFewInTime(0, 1, 100))),
    (500, situation("ada", "ada", enough=2), Wait(MoreVolunteersNeeded(1, 2))),
    (5, situation(), Wait(NoVolunteers())),
    (500, situation(), Wait(NoVolunteers())),
    (110, replace(situation(), idle=2), Reopen(AllSitOut(2))),
    (50, replace(situation(), idle=2), Wait(SittingOut(2, 70))),
    (110, replace(situation("ada", enough=2), idle=1), Wait(SittingOut(1, 10))),
    (120, replace(situation("ada", enough=2), idle=1), Reopen(TooFewInTime(1, 2, 100))),
    (5, replace(situation("ada", "ada"), idle=40), CloseNow(AllContributed(1))),
    (5, EMPTY, Wait(NoVolunteers())),
    (90, replace(EMPTY, idle=1), Wait(SittingOut(1, 30))),
    (90, replace(EMPTY, expected=ADA_NAMED), Reopen(FirstVolunteers(("ada",), 0))),
    (90, replace(EMPTY, late=ADA_NAMED), Reopen(FirstVolunteers(("ada",), 0))),
    (90, replace(EMPTY, expected=ADA_NAMED, begun=True), Wait(StillTraining(("ada",), 0, 30))),
    (
        90,
        replace(EMPTY, expected=TWO, pending=frozenset([KEYS["ada"]])),
        Wait(StillTraining(("ada", "ben"), 0, 30)),
    ),
    (5, replace(situation("ada", "ada"), halted=True), Wait(RunHalted())),
    (120, replace(situation("ada", "ada ben"), halted=True), Wait(RunHalted())),
    (5, replace(situation("ada", "ada"), ended_after=7), Wait(RunOver(7))),
    (120, replace(situation("", "ada ben"), ended_after=7, halted=True), Wait(RunOver(7))),
    (5, situation("ada ben", "ada ben", most=2), CloseNow(AllContributed(2))),
    (5, situation("ada ben", "ada ben cem", most=2), CloseNow(RoundFull(2))),
    (5, situation("ada ben", "ada", "cem", most=2), CloseNow(RoundFull(2))),
    (5, situation("ada", "ada ben cem", most=2), Wait(StillTraining(("ben", "cem"), 0, 115))),
]


@pytest.mark.parametrize(
    ("seconds", "found", "decision"), RULES, ids=[f"{i}: {r[2].reason}" for i, r in enumerate(RULES)]
)
def test_the_rules(seconds: float, found: Situation, decision: Decision) -> None:
    assert decide_close(replace(found, now=after(seconds))) == decision


def test_the_examples_reach_every_reason() -> None:
    reached = {type(decision.reason) for _, _, decision in RULES}
    assert reached == {*get_args(CloseReason), *get_args(ReopenReason), *get_args(WaitReason)}


def test_volunteers_without_a_name_are_named_by_their_key() -> None:
    found = replace(situation(), now=after(1), expected={PublicKey("ab" * 32): ""})
    assert decide_close(found) == Wait(StillTraining(("abababab",), 0, 119))


names = st.sets(st.sampled_from(sorted(KEYS))).map(" ".join)


@given(
    st.integers(0, 300),
    names,
    names,
    names,
    st.integers(1, 4),
    st.sampled_from([None, 100]),
    st.integers(4, 6),
    st.sampled_from([0, 3]),
    names,
    st.booleans(),
)
def test_invariants_of_every_decision(
    seconds: int,
    accepted: str,
    expected: str,
    pending: str,
    enough: int,
    target: int | None,
    most: int,
    idle: int,
    slow: str,
    deserted: bool,
) -> None:
    slow = " ".join(set(slow.split()) - set(expected.split()))
    found = situation(accepted, expected, pending, enough, target, most, slow)
    found = replace(found, idle=idle, deserted=deserted)
    decided = decide_close(replace(found, now=after(seconds)))
    awaited = set(expected.split())
    if len(awaited) < enough:
        awaited |= set(slow.split())
    missing = awaited - set(accepted.split())
    late = after(seconds) >= found.window.deadline
    full = len(found.accepted) >= most
    match decided:
        case CloseNow():
            assert len(found.accepted) >= enough
            assert late or full or not (missing or pending)
        case Reopen():
            assert deserted or after(seconds) >= found.window.train_ends or target is not None
            assert len(found.accepted) < enough
            assert missing or idle
        case Wait():
            assert not full
            assert not (late and len(found.accepted) >= enough)
            assert not (late and (missing or idle))


def reasons(accepted: str = "", expected: str = "", seconds: float = 5) -> WaitReason:
    decision = decide_close(replace(situation(accepted, expected), now=after(seconds)))
    assert isinstance(decision, Wait)
    return decision.reason


def test_names_are_news_and_seconds_and_counts_are_not() -> None:
    before = reasons("ada", "ada ben", seconds=105)
    assert not reasons("ada", "ada ben", seconds=110).is_news_after(before)
    assert not reasons("ada eva", "ada ben", seconds=110).is_news_after(before)
    assert reasons("ada", "ada cem", seconds=105).is_news_after(before)
    assert before.is_news_after(reasons("ada", "ada ben"))


def test_of_many_missing_volunteers_only_the_named_ones_are_news() -> None:
    before = reasons("", "ada ben cem dan eva")
    assert not reasons("", "ada ben cem dan").is_news_after(before)
    assert reasons("", "ben cem dan eva").is_news_after(before)
