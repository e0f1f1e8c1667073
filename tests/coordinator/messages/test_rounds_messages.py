"""The words of every reason of admission and closing: the one place that asserts them."""

from __future__ import annotations

import pytest

from barnraise.core.ids import RunId
from coordinator.messages import rounds as messages
from coordinator.rounds.admission import ClockOff, WrongRun

BARN = RunId("barn")


@pytest.mark.parametrize(
    ("reason", "problem", "fix"),
    [
        (WrongRun(BARN, "shed"), "this is the run barn, not shed", "Ask for this run's invite."),
        (
            ClockOff(901.2),
            "your clock is 901 s behind the coordinator's",
            "Set this machine's clock (turn network time on) and join again.",
        ),
        (
            ClockOff(-901.2),
            "your clock is 901 s ahead of the coordinator's",
            "Set this machine's clock (turn network time on) and join again.",
        ),
    ],
)
def test_refused_claim(reason: WrongRun | ClockOff, problem: str, fix: str) -> None:
    error = messages.refused_claim(reason)
    assert (error.problem, error.fix) == (problem, fix)
