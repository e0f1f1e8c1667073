"""Round and phase arithmetic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnraise.contract.rounds import Phase, Window, seconds_between
from barnraise.contract.spec import RoundSpec
from barnraise.core.ids import Millis, Round

OPENS = 1_000_000
ORDER = [Phase.TRAIN, Phase.PUBLISH, Phase.CLOSE]


def window(target_tokens: int | None = None, opens: int = OPENS) -> Window:
    return Window(Round(3), Millis(opens), RoundSpec(seconds=10.0, grace=2.5, target_tokens=target_tokens))


@pytest.mark.parametrize(
    ("after", "phase"),
    [
        (-5_000, Phase.TRAIN),
        (0, Phase.TRAIN),
        (9_999, Phase.TRAIN),
        (10_000, Phase.PUBLISH),
        (12_499, Phase.PUBLISH),
        (12_500, Phase.CLOSE),
        (10**9, Phase.CLOSE),
    ],
)
def test_phases_are_in_order(after: int, phase: Phase) -> None:
    assert window().phase(Millis(OPENS + after), 10**12) is phase


@pytest.mark.parametrize(
    ("tokens", "phase"), [(0, Phase.TRAIN), (99, Phase.TRAIN), (100, Phase.PUBLISH), (101, Phase.PUBLISH)]
)
def test_enough_tokens_end_training_early(tokens: int, phase: Phase) -> None:
    assert window(100).phase(Millis(OPENS + 1), tokens) is phase
    assert window(100).phase(Millis(OPENS + 12_500), tokens) is Phase.CLOSE


@given(
    st.floats(0.001, 1e6),
    st.floats(0.001, 1e6),
    st.integers(0, 2**50),
    st.lists(st.integers(-(10**6), 10**10), min_size=2),
)
def test_phases_never_go_back_over_time(seconds: float, grace: float, opens: int, after: list[int]) -> None:
    frame = Window(Round(0), Millis(opens), RoundSpec(seconds=seconds, grace=grace))
    assert frame.opens <= frame.train_ends <= frame.deadline
    phases = [ORDER.index(frame.phase(Millis(opens + moment), 0)) for moment in sorted(after)]
    assert phases == sorted(phases)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 20_000))
def test_more_tokens_never_prolong_training(fewer: int, more: int, after: int) -> None:
    frame, now = window(500), Millis(OPENS + after)
    fewer, more = min(fewer, more), max(fewer, more)
    assert ORDER.index(frame.phase(now, fewer)) <= ORDER.index(frame.phase(now, more))


def test_times_are_whole_milliseconds() -> None:
    frame = Window(Round(0), Millis(7), RoundSpec(seconds=0.0014, grace=0.0006))
    assert (frame.train_ends, frame.deadline) == (8, 9)
    assert isinstance(frame.deadline, int)


def test_seconds_between_two_times() -> None:
    assert seconds_between(Millis(1_500), Millis(4_000)) == 2.5
    assert seconds_between(Millis(4_000), Millis(1_500)) == -2.5
