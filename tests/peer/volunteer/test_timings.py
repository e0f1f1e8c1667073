"""A volunteer's times: each moment is measured from the one that it belongs to."""

from __future__ import annotations

import pytest

from barnraise.core.ids import Millis
from peer.volunteer.timings import RoundTimer


def at(seconds: float) -> Millis:
    return Millis(round(seconds * 1000))


def times(pace: RoundTimer) -> tuple[float, float, float]:
    return pace.train_seconds, pace.exchange_seconds, pace.send_seconds


def test_before_the_first_round_nothing_is_known() -> None:
    pace = RoundTimer(at(100))
    assert times(pace) == (0.0, 0.0, 0.0)
    assert pace.ahead_seconds(at(500)) == 0.0


def test_a_round_is_training_and_then_exchange() -> None:
    pace = RoundTimer(at(100))
    pace.published(at(160), 5.0)
    assert times(pace) == (60.0, 0.0, 0.0)
    assert pace.ahead_seconds(at(165.5)) == 5.5
    pace.sent(at(160), at(168))
    assert times(pace) == (60.0, 0.0, 8.0)
    pace.folded(at(170))
    pace.went_over(at(171))  # once the step at hand was done
    assert times(pace) == (60.0, 10.0, 8.0)
    assert pace.ahead_seconds(at(180)) == 0.0


def test_the_next_round_s_training_begins_with_its_state() -> None:
    pace = RoundTimer(at(100))
    pace.published(at(160), 5.0)
    pace.folded(at(170))
    pace.went_over(at(170))
    pace.published(at(200), 5.0)
    assert times(pace) == (30.0, 10.0, 0.0)


def test_a_step_that_began_rounds_before_counts_whole() -> None:
    pace = RoundTimer(at(100))
    pace.went_over(at(300))  # it ended just now, and was not looked at before
    pace.published(at(300.5), 250.0)
    assert pace.train_seconds == 250.0


@pytest.mark.parametrize("before", [False, True])
def test_a_round_without_a_contribution_has_no_exchange(before: bool) -> None:
    pace = RoundTimer(at(100))
    if before:
        pace.published(at(110), 5.0)
        pace.folded(at(113))
        pace.went_over(at(113))
    pace.folded(at(149))
    pace.went_over(at(150))
    assert pace.exchange_seconds == (3.0 if before else 0.0)
    pace.published(at(175), 5.0)
    assert pace.train_seconds == 25.0


def test_a_sending_that_outlasts_its_round_is_measured_all_the_same() -> None:
    """Otherwise a slow uplink would never learn to begin earlier."""
    pace = RoundTimer(at(0))
    pace.published(at(60), 5.0)
    pace.went_over(at(80))
    pace.sent(at(60), at(95))
    assert pace.send_seconds == 35.0
    pace.published(at(100), 5.0)
    pace.sent(at(60), at(110))
    assert pace.send_seconds == 50.0
