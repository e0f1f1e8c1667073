"""The pauses between attempts grow, are bounded, and differ between volunteers."""

from __future__ import annotations

from barnraise.core.backoff import backoff_seconds


def test_a_pause_doubles_up_to_its_limit_and_is_spread_over_its_second_half() -> None:
    for attempt, whole in enumerate([2, 4, 8, 16, 32, 60, 60]):
        found = [backoff_seconds(str(seed), attempt, first=2, longest=60) for seed in range(200)]
        assert whole / 2 <= min(found) < 0.55 * whole
        assert 0.95 * whole < max(found) <= whole
    assert backoff_seconds("a", 10**9, first=2, longest=60) <= 60


def test_a_pause_is_a_function_of_seed_and_attempt() -> None:
    assert backoff_seconds("a", 3, first=2, longest=60) == backoff_seconds("a", 3, first=2, longest=60)
