"""The order of a volunteer's heartbeats."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from barnraise.contract.heartbeat import MISSED, is_early, next_time
from barnraise.core.ids import Millis

NOW = Millis(1_700_000_000_000)
BEAT = 5.0
EARLY = int(MISSED * BEAT * 1000)


@given(st.integers(-EARLY, 10**7))
def test_the_next_heartbeat_is_later_although_the_clock_was_corrected(later: int) -> None:
    now = Millis(NOW + later)
    found = next_time(NOW, BEAT, now)
    assert found > NOW
    assert found >= now
    assert not is_early(found, BEAT, Millis(now + 1))


@given(st.integers(-(10**8), -EARLY - 1))
def test_a_clock_that_was_set_far_back_is_followed(later: int) -> None:
    now = Millis(NOW + later)
    assert next_time(NOW, BEAT, now) == now
