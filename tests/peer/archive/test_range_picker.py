"""Which source is asked for which bytes next."""

from __future__ import annotations

import random

import pytest

from peer.archive.events import FarSlower, NoRanges, RequestFailed
from peer.archive.range_picker import (
    MAX_FAILURES,
    MAX_SPAN_BYTES,
    MIN_SPAN_BYTES,
    ActiveRange,
    DropSource,
    FetchSpan,
    SourceView,
    Span,
    StandBy,
    TakeOver,
    WaitUntil,
    lacking,
    merged,
    next_step,
)
from peer.timing import TIMING

MB = 2**20
FAST, SLOW = 10.0 * MB, 1.0 * MB


def busy(span: Span, last_byte_at: float = 100.0, rate: float | None = SLOW, **other: object) -> SourceView:
    return SourceView(rate=rate, active=ActiveRange(span, last_byte_at), **other)  # type: ignore[arg-type]


def test_a_lone_source_is_asked_for_all_of_a_gap_at_once() -> None:
    gap = Span(0, 3, 900 * MB)
    assert next_step(100.0, 0, {0: SourceView(SLOW)}, [gap], {}) == FetchSpan(gap)


@pytest.mark.parametrize(
    ("rate", "size"),
    [
        (None, MIN_SPAN_BYTES),
        (1000.0, MIN_SPAN_BYTES),
        (SLOW, int(SLOW * TIMING.span)),
        (1e9, MAX_SPAN_BYTES),
    ],
    ids=["unknown", "tiny", "middling", "huge"],
)
def test_a_faster_source_is_asked_for_more(rate: float | None, size: int) -> None:
    sources = {0: SourceView(rate), 1: SourceView(rate)}
    assert next_step(100.0, 0, sources, [Span(0, 0, 900 * MB)], {}) == FetchSpan(Span(0, 0, size))


def test_no_short_rest_is_left() -> None:
    gap = Span(0, 0, 2 * MIN_SPAN_BYTES - 1)
    assert next_step(100.0, 0, {0: SourceView(None), 1: SourceView(None)}, [gap], {}) == FetchSpan(gap)


@pytest.mark.parametrize(("failures", "pause"), [(1, TIMING.source_retry), (2, 4 * TIMING.source_retry)])
def test_a_source_that_failed_is_asked_again_after_a_pause(failures: int, pause: float) -> None:
    source, gap = SourceView(SLOW, failures=failures, failed_at=100.0), Span(0, 0, 5)
    assert next_step(100.0, 0, {0: source}, [gap], {}) == WaitUntil(100.0 + pause)
    assert next_step(100.0 + pause, 0, {0: source}, [gap], {}) == FetchSpan(gap)


def test_a_source_that_keeps_failing_is_dropped() -> None:
    source = SourceView(SLOW, failures=MAX_FAILURES, failed_at=100.0, failure=RequestFailed("it breaks off"))
    assert next_step(500.0, 0, {0: source}, [Span(0, 0, 5)], {}) == DropSource(RequestFailed("it breaks off"))


def test_a_far_slower_source_stands_by_while_a_fast_one_works() -> None:
    slow, gap = SourceView(FAST / 100), Span(0, 0, 50 * MB)
    fast = busy(Span(1, 0, MB), rate=FAST)
    step = next_step(100.0, 0, {0: slow, 1: fast}, [gap], {})
    assert step == StandBy(FarSlower(FAST / 100, FAST), 100.0 + TIMING.source_silent)
    for broken in (
        SourceView(FAST, failures=1, failed_at=100.0),
        busy(Span(1, 0, MB), 100.0 - TIMING.source_silent, FAST),
    ):
        assert isinstance(next_step(100.0, 0, {0: slow, 1: broken}, [gap], {}), FetchSpan)


def test_a_source_without_ranges_stands_by_while_another_has_them() -> None:
    plain, gap = SourceView(FAST, ranges=False), Span(0, 0, 50 * MB)
    assert next_step(100.0, 0, {0: plain, 1: SourceView(SLOW)}, [gap], {}) == StandBy(NoRanges(), None)
    assert next_step(100.0, 0, {0: plain, 1: plain}, [gap], {}) == FetchSpan(gap)
    assert isinstance(next_step(100.0, 1, {0: plain, 1: plain}, [gap], {}), StandBy)


def test_the_range_of_a_silent_source_is_taken_over() -> None:
    owed = Span(0, 5, 4000)
    sources = {0: SourceView(SLOW), 1: busy(owed, last_byte_at=100.0)}
    assert next_step(100.0 + TIMING.source_silent, 0, sources, [], {}) == TakeOver(1, owed)
    assert next_step(101.0, 0, sources, [], {}) == WaitUntil(100.0 + TIMING.source_silent)


@pytest.mark.parametrize(("rate", "taken"), [(None, 10), (SLOW, 10), (3 * SLOW, 15)])
def test_the_range_that_ends_last_is_shared(rate: float | None, taken: int) -> None:
    sources = {0: SourceView(rate), 1: busy(Span(0, 0, 20 * MB)), 2: busy(Span(1, 0, 30 * MB), rate=FAST)}
    assert next_step(100.0, 0, sources, [], {}) == TakeOver(1, Span(0, (20 - taken) * MB, 20 * MB))


def test_a_short_rest_is_not_taken_over() -> None:
    sources = {0: SourceView(SLOW), 1: busy(Span(0, 0, 4 * MB), rate=FAST)}
    assert next_step(100.0, 0, sources, [], {}) == WaitUntil(100.0 + TIMING.source_silent)


def test_an_exclusive_file_is_fetched_from_one_source() -> None:
    gap = Span(0, 0, 50 * MB)
    sources = {0: SourceView(FAST), 1: SourceView(SLOW)}
    assert next_step(100.0, 1, sources, [gap], {0: None}) == FetchSpan(gap)
    assert next_step(100.0, 0, sources, [gap], {0: 1}) == WaitUntil(None)
    silent = {0: SourceView(FAST), 1: busy(gap, last_byte_at=0.0)}
    assert next_step(100.0, 0, silent, [], {0: 1}) == WaitUntil(None)


def test_a_source_finishes_its_exclusive_file_however_slow() -> None:
    gap = Span(0, 10, 20)
    sources = {0: SourceView(FAST), 1: SourceView(1.0, ranges=False)}
    assert next_step(100.0, 1, sources, [gap], {0: 1}) == FetchSpan(gap)


@pytest.mark.parametrize("seed", range(300))
def test_one_source_always_acts(seed: int) -> None:
    """While bytes are lacking and all sources are idle."""
    draw = random.Random(seed)
    sources = {
        number: SourceView(
            rate=draw.choice([None, 1.0, SLOW, FAST]),
            ranges=draw.random() < 0.5,
            failures=draw.randrange(MAX_FAILURES + 1),
            failed_at=0.0,
        )
        for number in range(draw.randrange(1, 5))
    }
    exclusive: dict[int, int | None] = draw.choice([{}, {0: None}, {0: draw.choice(list(sources))}])
    steps = [next_step(1000.0, me, sources, [Span(0, 0, 9 * MB)], exclusive) for me in sources]
    assert any(isinstance(step, FetchSpan | DropSource) for step in steps), steps


def test_spans_are_merged() -> None:
    assert merged([(5, 9), (0, 2), (2, 4), (8, 12), (7, 7)]) == [(0, 4), (5, 12)]
    assert lacking(15, [(5, 9), (0, 2)]) == [(2, 5), (9, 15)]
    assert lacking(3, []) == [(0, 3)]
    assert lacking(0, []) == []
    assert lacking(9, [(0, 9)]) == []
