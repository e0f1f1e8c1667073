"""The learning rate's factor over a run, and where the run ends."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnraise.contract.field_types import MAX_COUNT
from barnraise.contract.schedule import (
    NO_PROGRESS,
    OrderedDecay,
    Progress,
    decays,
    first_progress,
    is_over,
    rate_factor,
)
from barnraise.contract.spec import Schedule
from barnraise.contract.spec_file import parse_spec
from barnraise.core.errors import SpecError
from tests.support import parts

SMALLEST = 'name = "barn"\n[data]\nsource = "x"\n'
shares = st.floats(0, 1)


@st.composite
def by_rounds(draw: st.DrawFn) -> Schedule:
    rounds, decay = draw(st.integers(1, 300)), draw(shares)
    most = rounds - round(decay * rounds)
    return Schedule(rounds=rounds, decay=decay, warmup_rounds=draw(st.integers(0, most)))


def factors(schedule: Schedule, rounds: int, progress: Progress = NO_PROGRESS) -> list[float]:
    return [rate_factor(schedule, step, progress) for step in range(rounds)]


def test_a_run_of_ten_rounds() -> None:
    schedule = Schedule(rounds=10, warmup_rounds=2, decay=0.3)
    assert factors(schedule, 12) == [1 / 3, 2 / 3, 1, 1, 1, 1, 1, 3 / 4, 1 / 2, 1 / 4, 0, 0]
    assert [is_over(schedule, step, NO_PROGRESS) for step in (0, 9, 10, 11)] == [False, False, True, True]
    assert [decays(schedule, step, NO_PROGRESS) for step in (0, 6, 7, 10)] == [False, False, True, True]


def test_without_an_end_the_rate_stays() -> None:
    assert factors(Schedule(), 5) == [1] * 5
    assert factors(Schedule(warmup_rounds=1), 4) == [1 / 2, 1, 1, 1]
    assert not is_over(Schedule(), 10**9, NO_PROGRESS)


def test_a_run_of_a_hundred_tokens() -> None:
    schedule = Schedule(tokens=100, decay=0.25)
    at = {0: 1.0, 74: 1.0, 75: 1.0, 80: 20 / 25, 99: 1 / 25, 100: 0.0, 170: 0.0}
    assert {tokens: rate_factor(schedule, 3, Progress(tokens=tokens)) for tokens in at} == at
    assert [is_over(schedule, 3, Progress(tokens=tokens)) for tokens in (0, 99, 100, 170)] == [False] * 2 + [
        True
    ] * 2
    assert first_progress(schedule) == Progress(tokens=0)
    assert first_progress(Schedule(rounds=3)) == NO_PROGRESS


def test_of_two_planned_ends_the_first_counts() -> None:
    both = Schedule(rounds=4, tokens=100, decay=0.5)
    at = {(0, 0): 1.0, (2, 10): 2 / 3, (2, 80): 20 / 50, (3, 60): 1 / 3, (3, 100): 0.0, (4, 60): 0.0}
    assert {place: rate_factor(both, place[0], Progress(tokens=place[1])) for place in at} == at
    assert [is_over(both, *place) for place in ((3, Progress(tokens=99)), (3, Progress(tokens=100)))] == [
        False,
        True,
    ]


def test_an_ordered_decay_takes_the_place_of_the_planned_one() -> None:
    ordered = Progress(decay=OrderedDecay(start=4, rounds=3))
    for schedule in (Schedule(), Schedule(rounds=6), Schedule(rounds=50, decay=1.0)):
        assert factors(schedule, 9, ordered) == [1, 1, 1, 1, 3 / 4, 2 / 4, 1 / 4, 0, 0]
        assert [is_over(schedule, step, ordered) for step in (6, 7)] == [False, True]


@given(by_rounds())
def test_a_planned_run_rises_stays_and_falls(schedule: Schedule) -> None:
    assert schedule.rounds is not None
    found = factors(schedule, schedule.rounds)
    stable = schedule.rounds - schedule.decay_rounds
    rise, level, fall = (
        found[: schedule.warmup_rounds],
        found[schedule.warmup_rounds : stable],
        found[stable:],
    )
    assert all(0 < factor < 1 for factor in (*rise, *fall))
    assert all(factor == 1 for factor in level)
    assert all(before < after for before, after in pairwise(rise))
    assert all(before > after for before, after in pairwise(fall))
    assert not is_over(schedule, schedule.rounds - 1, NO_PROGRESS)
    assert is_over(schedule, schedule.rounds, NO_PROGRESS)


@given(by_rounds(), st.integers(0, 400))
def test_a_factor_is_the_rounded_quotient(schedule: Schedule, step: int) -> None:
    """What another implementation in exact numbers comes to."""
    assert schedule.rounds is not None
    warm = min(Fraction(1), Fraction(step + 1, schedule.warmup_rounds + 1))
    left = Fraction(max(0, schedule.rounds - step), schedule.decay_rounds + 1)
    assert rate_factor(schedule, step, NO_PROGRESS) == float(warm) * float(min(Fraction(1), left))


@given(st.integers(1, 10**15), shares, st.lists(st.integers(0, 10**15), min_size=2, max_size=20))
def test_a_run_of_tokens_falls_up_to_its_end(planned: int, decay: float, counts: list[int]) -> None:
    schedule = Schedule(tokens=planned, decay=decay)
    progresses = [Progress(tokens=tokens) for tokens in sorted(counts)]
    found = [rate_factor(schedule, 0, progress) for progress in progresses]
    assert all(before >= after for before, after in pairwise(found))
    for progress, factor in zip(progresses, found, strict=True):
        assert progress.tokens is not None
        assert is_over(schedule, 0, progress) == (factor == 0) == (progress.tokens >= planned)
        assert 0 <= factor <= 1
        assert decays(schedule, 0, progress) == (factor < 1)


@given(st.integers(0, 200), st.integers(1, 200), st.integers(0, 500))
def test_an_ordered_decay_ends_after_its_rounds(start: int, rounds: int, step: int) -> None:
    progress = Progress(decay=OrderedDecay(start=start, rounds=rounds))
    factor = rate_factor(Schedule(), step, progress)
    assert is_over(Schedule(), step, progress) == (factor == 0) == (step >= start + rounds)
    assert (factor < 1) == decays(Schedule(), step, progress) == (step >= start)


def test_a_close_counts_its_tokens_where_the_run_is_planned_by_them() -> None:
    ordered = OrderedDecay(start=2, rounds=1)
    assert Progress(tokens=5, decay=ordered).after([3, 4]) == Progress(tokens=12, decay=ordered)
    assert Progress(decay=ordered).after([3, 4]) == Progress(decay=ordered)
    assert Progress(tokens=MAX_COUNT).after([1]) == Progress(tokens=MAX_COUNT)


@given(st.integers(0, 50), st.integers(0, 50))
def test_a_rollback_to_before_an_ordered_decay_ends_it(start: int, step: int) -> None:
    ordered = OrderedDecay(start=start, rounds=9)
    back = Progress(tokens=70, decay=ordered).back_at(step, 20)
    assert back == Progress(tokens=20, decay=ordered if step > start else None)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (
            "rounds = 10\ndecay = 0.5\nwarmup_rounds = 6",
            "warmup_rounds is 6 and the decay has 5 rounds, of 10",
        ),
        ("rounds = 0", "train.schedule.rounds"),
        ("decay = 1.1", "train.schedule.decay"),
        ("warmup_rounds = -1", "train.schedule.warmup_rounds"),
    ],
)
def test_a_schedule_that_is_none_is_refused(settings: str, problem: str) -> None:
    with pytest.raises(SpecError, match=problem.replace(".", r"\.")):
        parse_spec(f"{SMALLEST}[train.schedule]\n{settings}\n")


def test_a_run_without_a_schedule_has_the_bytes_of_before() -> None:
    assert "schedule" not in parts.run_spec().model_dump_json()
    planned = parse_spec(f"{SMALLEST}[train.schedule]\nrounds = 7\n")
    assert '"schedule":{"rounds":7' in planned.model_dump_json()
