"""The words for what happened to the coordinator's clock."""

from __future__ import annotations

import pytest

from barnraise.runtime.clock_steps import ClockSet
from coordinator.messages.clock import clock_message
from coordinator.reasons.clock import ClockBehind


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        (
            ClockBehind(600.2),
            "this machine's clock is 600 s behind the run's records: the run's clock continues"
            " from the newest. Turn network time on",
        ),
        (ClockSet(600.2), "this machine's clock was set forward by 600 s; the run's stays as it is"),
        (ClockSet(-600.2), "this machine's clock was set back by 600 s; the run's stays as it is"),
    ],
)
def test_each_reason_has_its_words(reason: ClockBehind | ClockSet, message: str) -> None:
    assert clock_message(reason) == message
