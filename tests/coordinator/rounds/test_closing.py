"""When a round closes, and which contributions it may take."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnraise.contract.records import Commit
from barnraise.contract.rounds import Window
from barnraise.contract.spec import RoundSpec
from barnraise.core.ids import Millis, PublicKey, Round, StateHash
from coordinator.rounds.closing import (
    CloseNow,
    Decision,
    Fits,
    Misfit,
    Reopen,
    Situation,
    Wait,
    check_commit,
    decide_close,
)
from tests.support.parts import ADA, HASH_A, HASH_B, commit

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
) -> Situation:
    """Names separated by blanks."""
    spec = SPEC.model_copy(update={"target_tokens": target, "max_contributions": most})
    return Situation(
        window=Window(Round(3), Millis(OPENS), spec),
        accepted={KEYS[name]: WORK for name in accepted.split()},
        pending=frozenset(KEYS[name] for name in pending.split()),
        expected={KEYS[name]: name for name in expected.split()},
        late={KEYS[name]: name for name in late.split()},
        min_contributions=enough,
        swarm_tokens=100,
    )


EMPTY = replace(situation(), deserted=True, swarm_tokens=0)
TWO = {KEYS["ada"]: "ada", KEYS["ben"]: "ben"}
RULES: list[tuple[float, Situation, type[Decision], str]] = [
    (5, situation("ada", "ada"), CloseNow, "all 1 volunteers contributed"),
    (5, situation("ada ben", "ada"), CloseNow, "all 2 volunteers contributed"),
    (5, situation("ada", ""), CloseNow, "all 1 volunteers contributed"),
    (5, situation("ada", "ada ben"), Wait, "training: ben; at most 115 s"),
    (5, situation("ada", "ada", late="ben"), CloseNow, "all 1 volunteers contributed"),
    (105, situation("ada", "", late="ada ben"), Wait, "1 contributed; waiting for ben, at most 15 s"),
    (105, situation("ada", "ada", late="ben", enough=2), Wait, "1 contributed; waiting for ben"),
    (105, situation("", "", late="ben"), Wait, "0 contributed; waiting for ben"),
    (105, situation("ada ben", "", late="ada ben"), CloseNow, "all 2 volunteers contributed"),
    (5, situation("ada", "ada ben", target=100), Wait, "1 contributed; waiting for ben, at most 115 s"),
    (105, situation("ada", "ada ben"), Wait, "1 contributed; waiting for ben, at most 15 s"),
    (105, situation("ada", "ada", "ben"), Wait, "waiting for the last blobs"),
    (5, situation("ada", "ada", "ben"), Wait, "the last blobs"),
    (120, situation("ada", "ada ben"), CloseNow, "the deadline passed: 1 contributions, without ben"),
    (120, situation("ada", "ada", "ben"), CloseNow, "with everybody"),
    (120, situation("ada", "ada ben cem dan eva"), CloseNow, "without ben, cem, dan and 1 more"),
    (120, situation("", "ada"), Reopen, "0 of at least 1 contributions came in time"),
    (120, situation("ada", "ada ben", enough=2), Reopen, "goes on for another 100 s"),
    (5, situation("ada", "ada", enough=2), Wait, "1 of at least 2 contributions: more volunteers must join"),
    (500, situation("ada", "ada", enough=2), Wait, "more volunteers must join"),
    (5, situation(), Wait, "no volunteer is here"),
    (500, situation(), Wait, "no volunteer is here"),
    (110, replace(situation(), idle=2), Reopen, "nobody contributes to this round and 2 sit it out"),
    (50, replace(situation(), idle=2), Wait, "2 sit this round out; it begins anew in 70 s"),
    (110, replace(situation("ada", enough=2), idle=1), Wait, "1 sit this round out; it begins anew in 10 s"),
    (120, replace(situation("ada", enough=2), idle=1), Reopen, "1 of at least 2 contributions came in time"),
    (5, replace(situation("ada", "ada"), idle=40), CloseNow, "all 1 volunteers contributed"),
    (5, EMPTY, Wait, "no volunteer is here"),
    (90, replace(EMPTY, idle=1), Wait, "1 sit this round out"),
    (90, replace(EMPTY, expected={KEYS["ada"]: "ada"}), Reopen, "nobody was here: the round's time begins"),
    (90, replace(EMPTY, late={KEYS["ada"]: "ada"}), Reopen, "begins with ada"),
    (90, replace(EMPTY, expected={KEYS["ada"]: "ada"}, swarm_tokens=9), Wait, "training: ada"),
    (90, replace(EMPTY, expected=TWO, pending=frozenset([KEYS["ada"]])), Wait, "training: ada, ben"),
    (5, situation("ada ben", "ada ben cem", most=2), CloseNow, "the round is full: 2 volunteers contributed"),
    (5, situation("ada ben", "ada", "cem", most=2), CloseNow, "the round is full"),
    (5, situation("ada", "ada ben cem", most=2), Wait, "training: ben, cem"),
]


@pytest.mark.parametrize(
    ("seconds", "found", "decision", "reason"), RULES, ids=[f"{i}: {r[3]}" for i, r in enumerate(RULES)]
)
def test_the_rules(seconds: float, found: Situation, decision: type[Decision], reason: str) -> None:
    decided = decide_close(after(seconds), found)
    assert type(decided) is decision
    assert reason in decided.reason


def test_who_has_no_name_is_told_by_the_key() -> None:
    nameless = Situation(situation().window, {}, frozenset(), {PublicKey("ab" * 32): ""}, 1)
    assert "abababab" in decide_close(after(1), nameless).reason


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
def test_whatever_happens_the_promises_hold(
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
    found = replace(found, idle=idle, deserted=deserted, swarm_tokens=0 if deserted else found.swarm_tokens)
    decided = decide_close(after(seconds), found)
    awaited = set(expected.split())
    if len(awaited) < enough:
        awaited |= set(slow.split())
    missing = awaited - set(accepted.split())
    late = after(seconds) >= found.window.deadline
    full = len(found.accepted) >= most
    assert decided.reason.strip()
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


def commit_like(**other: object) -> Commit:
    return commit(ADA, round=3).model_copy(update=other)


JUDGED: list[tuple[Commit, float, str]] = [
    (commit_like(round=2), 5, "for round 2, the open one is 3"),
    (commit_like(round=4), 5, "for round 4"),
    (commit_like(), 121, "1 s after the deadline"),
    (commit_like(base_state=HASH_B), 5, "starts from state cdcdcdcd, the round's is abababab"),
    (commit_like(size=99), 5, "its blob has 99 bytes, this run's have 100"),
    (commit_like(tokens=65), 5, "claims 65 tokens from 4 samples of 16"),
]


def judged(made: Commit, seconds: float) -> Fits | Misfit:
    window = Window(Round(3), Millis(OPENS), SPEC)
    return check_commit(made, window, after(seconds), StateHash(HASH_A), range(100, 101), 16)


@pytest.mark.parametrize(("made", "seconds", "reason"), JUDGED, ids=[j[2] for j in JUDGED])
def test_a_commit_that_does_not_fit_is_told_why(made: Commit, seconds: float, reason: str) -> None:
    misfit = judged(made, seconds)
    assert isinstance(misfit, Misfit)
    assert reason in misfit.reason


@pytest.mark.parametrize("seconds", [0, 5, 105, 120])
def test_a_commit_fits_up_to_the_deadline(seconds: float) -> None:
    assert judged(commit_like(), seconds) == Fits()
