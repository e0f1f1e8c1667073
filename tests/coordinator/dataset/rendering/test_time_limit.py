"""Calls that end by themselves, or by their time limit; no watcher outlives them."""

from __future__ import annotations

import pytest

from coordinator.dataset.rendering.time_limit import OutOfTime, TimeLimit

DEADLINE = 60.0


def forever() -> None:
    while True:
        sum(range(100))


def test_the_watcher_ends_with_the_calls_and_comes_back() -> None:
    limit = TimeLimit(seconds=0.0)
    for _ in range(2):
        with pytest.raises(OutOfTime):
            limit.run(forever)
        watcher = limit._watcher
        if watcher is not None:  # else it has ended already
            watcher.join(DEADLINE)
        assert limit._watcher is None
    assert TimeLimit(seconds=DEADLINE).run(lambda: 7) == 7
