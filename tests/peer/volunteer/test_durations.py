"""A volunteer's durations: each is measured from its start."""

from __future__ import annotations

import pytest

from barnraise.contract.spec import RoundSpec
from barnraise.core.ids import Millis
from peer.volunteer.durations import (
    Durations,
    ExchangeShare,
    RoundTimer,
    StepCount,
    exchange_advice,
    step_advice,
)


def at(seconds: float) -> Millis:
    return Millis(round(seconds * 1000))


def times(timer: RoundTimer) -> tuple[float, float, float]:
    durations = timer.measured(at(0))
    return durations.train, durations.exchange, durations.send


def ahead(timer: RoundTimer, seconds: float) -> float:
    return timer.measured(at(seconds)).ahead


def test_before_the_first_round_all_durations_are_zero() -> None:
    timer = RoundTimer(at(100))
    assert timer.measured(at(500)) == Durations()
    assert not timer.steady


def test_a_round_is_training_and_then_exchange() -> None:
    timer = RoundTimer(at(100))
    timer.published(at(160))
    assert times(timer) == (60.0, 0.0, 0.0)
    assert ahead(timer, 165.5) == 5.5
    timer.sent(at(160), at(168))
    assert times(timer) == (60.0, 0.0, 8.0)
    timer.folded(at(170))
    timer.rebased(at(171))  # once the step in progress was done
    assert times(timer) == (60.0, 10.0, 8.0)
    assert ahead(timer, 180) == 0.0


def test_the_training_of_the_next_round_starts_with_its_state() -> None:
    timer = RoundTimer(at(100))
    timer.published(at(160))
    timer.folded(at(170))
    timer.rebased(at(170))
    timer.published(at(200))
    assert times(timer) == (30.0, 10.0, 0.0)


def test_a_step_that_began_rounds_before_counts_whole() -> None:
    timer = RoundTimer(at(100))
    timer.stepped(64, 250.0)
    timer.rebased(at(300))
    timer.published(at(300.5))
    assert times(timer) == (250.0, 0.0, 0.0)


@pytest.mark.parametrize("before", [False, True])
def test_a_round_without_a_contribution_has_no_exchange(before: bool) -> None:
    timer = RoundTimer(at(100))
    if before:
        timer.published(at(110))
        timer.folded(at(113))
        timer.rebased(at(113))
    timer.folded(at(149))
    timer.rebased(at(150))
    assert timer.measured(at(150)).exchange == (3.0 if before else 0.0)
    timer.published(at(175))
    assert timer.measured(at(175)).train == 25.0


def test_a_sending_that_outlasts_its_round_is_measured() -> None:
    """Otherwise a slow uplink would never learn to start earlier."""
    timer = RoundTimer(at(0))
    timer.published(at(60))
    timer.rebased(at(80))
    timer.sent(at(60), at(95))
    assert timer.measured(at(95)).send == 35.0
    timer.published(at(100))
    timer.sent(at(60), at(110))
    assert timer.measured(at(110)).send == 50.0


def test_steps_are_measured_over_the_last_five() -> None:
    timer = RoundTimer(at(0))
    assert timer.tokens_per_second == 0.0
    for seconds in (50, 1, 2, 3, 2, 2):
        timer.stepped(100, float(seconds))
    assert timer.tokens_per_second == 50.0
    assert timer.measured(at(0)).step == 2.0
    assert timer.steady


def test_a_step_that_was_held_up_is_none() -> None:
    """Else the next rounds would have no time for a second step."""
    timer = RoundTimer(at(0))
    timer.stepped(100, 4.9)
    assert timer.measured(at(0)).step == 4.9
    for _ in range(5):
        timer.stepped(100, 0.2)
        assert timer.measured(at(0)).step == 0.2


def test_an_outage_is_no_exchange() -> None:
    timer = RoundTimer(at(0))
    for second in (0, 5, 10):
        timer.head_arrived(at(second))
    timer.published(at(11))
    timer.head_arrived(at(311))
    timer.sent(at(11), at(312))
    timer.folded(at(314))
    assert times(timer) == (11.0, 3.0, 1.0)


def test_what_an_outage_held_up_may_end_before_the_next_head() -> None:
    timer = RoundTimer(at(0))
    timer.head_arrived(at(10))
    timer.published(at(9))
    timer.folded(at(51))
    timer.head_arrived(at(52))
    assert times(timer) == (9.0, 1.0, 0.0)


def test_an_outage_before_an_exchange_changes_nothing() -> None:
    timer = RoundTimer(at(0))
    for second in (0, 100, 105):
        timer.head_arrived(at(second))
    timer.published(at(104))
    timer.folded(at(109))
    assert times(timer) == (104.0, 5.0, 0.0)


@pytest.mark.parametrize(
    ("step", "spec", "count", "steps"),
    [
        (2.0, RoundSpec(seconds=100.0), StepCount.FIT, 50.0),
        (25.0, RoundSpec(seconds=100.0), StepCount.FEW, 4.0),
        (20.0, RoundSpec(seconds=100.0), StepCount.FIT, 5.0),
        (0.1, RoundSpec(seconds=100.0), StepCount.MANY, 1000.0),
        (0.1, RoundSpec(seconds=100.0, steps=30), StepCount.FIT, 30.0),
        (200.0, RoundSpec(seconds=100.0), StepCount.NONE, 0.5),
    ],
)
def test_advice_on_the_steps_of_a_round(step: float, spec: RoundSpec, count: StepCount, steps: float) -> None:
    advice = step_advice(Durations(step=step), 8, spec)
    assert (advice.count, advice.steps) == (count, steps)


@pytest.mark.parametrize(
    ("overlap", "exchange", "overlaps"),
    [("auto", 10.1, True), ("auto", 10.0, False), ("always", 1.0, True), ("never", 99.0, False)],
)
def test_advice_on_the_exchange(overlap: str, exchange: float, overlaps: bool) -> None:
    spec = RoundSpec(seconds=100.0, overlap=overlap)  # type: ignore[arg-type]
    advice = exchange_advice(Durations(train=100.0, exchange=exchange), spec)
    assert advice == ExchangeShare(exchange, 100.0, overlaps, by_run=overlap != "auto")


def test_advice_is_news_when_its_meaning_changes() -> None:
    spec = RoundSpec(seconds=100.0)
    before = step_advice(Durations(step=2.0), 8, spec)
    assert not step_advice(Durations(step=2.1), 8, spec).is_news_after(before)
    assert step_advice(Durations(step=25.0), 8, spec).is_news_after(before)
