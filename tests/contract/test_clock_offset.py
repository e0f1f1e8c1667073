"""The estimate of the run's clock, in virtual time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from barnraise.contract.clock_offset import WINDOW_MS, ClockOffset
from barnraise.core.ids import Millis

TRUE = 1_700_000_000_000
"""Milliseconds from the local clock to the run's."""
HEAD_MS = 5_000
delays = st.integers(0, HEAD_MS - 1)
steps = st.integers(-(10**7), 10**7)


def receive(offset: ClockOffset, true: int, signed: int, delay: int) -> None:
    """A head that was signed at the local time `signed` arrives `delay` later."""
    offset.head_received(Millis(true + signed), Millis(signed + delay))


@given(steps, st.lists(delays, min_size=1, max_size=40))
def test_the_error_is_the_least_delay_of_the_last_heads(wrong: int, late: list[int]) -> None:
    offset = ClockOffset(TRUE + wrong)
    for number, delay in enumerate(late):
        receive(offset, TRUE, HEAD_MS * number, delay)
    last = HEAD_MS * (len(late) - 1) + late[-1]
    counted = [d for n, d in enumerate(late) if last - (HEAD_MS * n + d) < WINDOW_MS]
    assert TRUE - offset.value == min(counted)


@given(st.integers(0, 60_000), st.integers(0, 60_000), steps)
def test_after_an_answer_the_error_is_at_most_its_way_back(there: int, back: int, wrong: int) -> None:
    offset = ClockOffset(TRUE + wrong)
    offset.head_received(Millis(TRUE + there), Millis(there + back), Millis(0))
    assert TRUE - offset.value == back


@given(st.integers(HEAD_MS, 10**7), delays)
def test_a_run_clock_that_steps_forward_is_followed_at_once(step: int, delay: int) -> None:
    offset = ClockOffset(TRUE)
    receive(offset, TRUE, 0, 0)
    receive(offset, TRUE + step, HEAD_MS, delay)
    assert offset.value == TRUE + step - delay


@given(st.integers(HEAD_MS, 10**7), st.lists(delays, min_size=7, max_size=7))
def test_a_run_clock_that_steps_back_is_followed_within_the_window(step: int, late: list[int]) -> None:
    offset = ClockOffset(TRUE)
    receive(offset, TRUE, 0, 0)
    for number, delay in enumerate(late, 1):
        receive(offset, TRUE - step, HEAD_MS * number, delay)
    assert HEAD_MS * len(late) >= WINDOW_MS
    assert 0 <= TRUE - step - offset.value < HEAD_MS


def test_an_answer_disproves_earlier_bounds() -> None:
    offset = ClockOffset(TRUE)
    receive(offset, TRUE, 0, 0)
    offset.head_received(Millis(TRUE - 600_000 + 5_000), Millis(5_010), Millis(4_990))
    assert offset.value == TRUE - 600_000 - 10
