"""The words for calls that are refused."""

from __future__ import annotations

import pytest

from coordinator.messages.calls import too_many_message
from coordinator.reasons.calls import TooMany, TooManyNewKeys, TooManyOfAddress, TooManyOfKey

LATER = "a volunteer that runs does so by itself."


@pytest.mark.parametrize(
    ("reason", "problem", "fix"),
    [
        (TooManyOfAddress(0.05), "your address calls too often", f"Wait 1 s and try again; {LATER}"),
        (TooManyOfKey(9.6), "your key calls too often", f"Wait 10 s and try again; {LATER}"),
        (
            TooManyNewKeys(2.0),
            "too many new volunteers joined from your address",
            f"Wait 2 s and try again; {LATER}",
        ),
    ],
)
def test_too_many_calls(reason: TooMany, problem: str, fix: str) -> None:
    assert too_many_message(reason) == (problem, fix)
