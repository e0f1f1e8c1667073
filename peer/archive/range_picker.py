"""Which source is asked for which bytes next. Pure. Times are seconds of any clock that only goes forward.

An idle source gets a range, the larger the faster it is. When no range is left, it takes over part of what
the slowest source would still fetch, so that the download does not wait for slow or silent sources.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from peer.archive.events import FarSlower, NoRanges, SourceFailure, StandByReason
from peer.timing import TIMING, Timing

MIN_SPAN_BYTES, MAX_SPAN_BYTES = 2**20, 64 * 2**20
"""Limits of a range; the rest of a file can be shorter."""
MAX_FAILURES = 3
"""Failures in a row, without a byte between them, after which a source is dropped."""
BACKOFF = 4
"""Factor between the pauses after two failures in a row."""
SLOW_SHARE = 0.02
"""A source that is slower than this share of the fastest is not asked while that one works."""


@dataclass(frozen=True)
class Span:
    """Bytes `start` to `end` (exclusive) of the file with the number `file`."""

    file: int
    start: int
    end: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start


@dataclass(frozen=True)
class ActiveRange:
    """What a source is fetching."""

    span: Span
    """The bytes that have not arrived."""
    last_byte_at: float
    """When its last byte arrived, or the request was sent."""


@dataclass(frozen=True)
class SourceView:
    """What is known of a source."""

    rate: float | None
    """Bytes a second; None before it was measured."""
    ranges: bool = True
    """Whether it can start in the middle of a file."""
    failures: int = 0
    """In a row."""
    failed_at: float = -math.inf
    """When it failed last."""
    failure: SourceFailure | None = None
    """Its last one."""
    active: ActiveRange | None = None

    def seconds_for(self, size: int) -> float:
        """Time that it needs for `size` bytes."""
        return size / self.rate if self.rate else math.inf


@dataclass(frozen=True)
class FetchSpan:
    """Request these bytes, which no source is asked for."""

    span: Span


@dataclass(frozen=True)
class TakeOver:
    """Request these bytes in place of `source`."""

    source: int
    span: Span


@dataclass(frozen=True)
class WaitUntil:
    """Decide again then, or when something changes."""

    until: float | None
    """None: only when something changes."""


@dataclass(frozen=True)
class StandBy:
    """Do nothing while better sources work; decide again then, or when something changes."""

    reason: StandByReason
    until: float | None


@dataclass(frozen=True)
class DropSource:
    """Never ask this source again."""

    failure: SourceFailure


Step = FetchSpan | TakeOver | WaitUntil | StandBy | DropSource


@dataclass(frozen=True)
class _Situation:
    now: float
    me: int
    sources: Mapping[int, SourceView]
    gaps: Sequence[Span]
    exclusive: Mapping[int, int | None]
    timing: Timing

    @cached_property
    def source(self) -> SourceView:
        return self.sources[self.me]

    @cached_property
    def others(self) -> dict[int, SourceView]:
        return {number: other for number, other in self.sources.items() if number != self.me}

    @cached_property
    def working(self) -> dict[int, SourceView]:
        """The other sources that deliver, or would if they were asked."""
        return {
            number: other
            for number, other in self.others.items()
            if not other.failures and (other.active is None or not self.is_silent(other.active))
        }

    @cached_property
    def active(self) -> dict[int, ActiveRange]:
        """What the other sources are fetching and may be taken over."""
        return {
            number: active
            for number, other in self.others.items()
            if (active := other.active) is not None
            and active.span.size
            and active.span.file not in self.exclusive
        }

    def is_silent(self, active: ActiveRange) -> bool:
        return self.now >= active.last_byte_at + self.timing.source_silent

    def first_silent_at(self, ranges: Iterable[ActiveRange]) -> float | None:
        """When the first of them will have been silent for too long."""
        times = [active.last_byte_at for active in ranges]
        return min(times) + self.timing.source_silent if times else None


def next_step(
    now: float,
    me: int,
    sources: Mapping[int, SourceView],
    gaps: Sequence[Span],
    exclusive: Mapping[int, int | None],
    timing: Timing = TIMING,
) -> Step:
    """What the idle source `me` does, by the first rule that applies.

    sources: those that were not dropped. gaps: bytes that no source is asked for. exclusive: files that are
    fetched from one source only, so that wrong bytes reveal it; None where none has begun.
    """
    at = _Situation(now, me, sources, gaps, exclusive, timing)
    return (
        _drop_after_failures(at)
        or _pause_after_failure(at)
        or _finish_own_file(at)
        or _stand_by(at)
        or _fetch_gap(at)
        or _take_over_silent(at)
        or _share_slowest(at)
        or WaitUntil(at.first_silent_at(at.active.values()) if at.source.ranges else None)
    )


def _drop_after_failures(at: _Situation) -> DropSource | None:
    failure = at.source.failure
    return DropSource(failure) if failure is not None and at.source.failures >= MAX_FAILURES else None


def _pause_after_failure(at: _Situation) -> WaitUntil | None:
    if not at.source.failures:
        return None
    retry_at = at.source.failed_at + at.timing.source_retry * BACKOFF ** (at.source.failures - 1)
    return WaitUntil(retry_at) if at.now < retry_at else None


def _finish_own_file(at: _Situation) -> FetchSpan | None:
    """A file that is fetched from this source only."""
    return next((FetchSpan(gap) for gap in at.gaps if at.exclusive.get(gap.file) == at.me), None)


def _stand_by(at: _Situation) -> StandBy | None:
    """While a better source works: one always is, so that not all stand by."""
    reason = _no_ranges(at) or _far_slower(at)
    if reason is None:
        return None
    busy = (other.active for other in at.working.values())
    return StandBy(reason, at.first_silent_at(active for active in busy if active is not None))


def _no_ranges(at: _Situation) -> NoRanges | None:
    better = any(other.ranges or number < at.me for number, other in at.working.items())
    return NoRanges() if not at.source.ranges and better else None


def _far_slower(at: _Situation) -> FarSlower | None:
    rates = [other.rate for other in at.working.values() if other.ranges and other.rate is not None]
    rate, fastest = at.source.rate, max(rates, default=0.0)
    return FarSlower(rate, fastest) if rate is not None and rate < SLOW_SHARE * fastest else None


def _fetch_gap(at: _Situation) -> FetchSpan | None:
    """The first gap: whole where no other source would share it, else the front of it."""
    for gap in at.gaps:
        if at.exclusive.get(gap.file) is None:
            whole = not at.others or not at.source.ranges or gap.file in at.exclusive
            return FetchSpan(gap if whole else _front(gap, at.source.rate, at.timing))
    return None


def _front(gap: Span, rate: float | None, timing: Timing) -> Span:
    size = int(min(MAX_SPAN_BYTES, max(MIN_SPAN_BYTES, (rate or 0.0) * timing.span)))
    return gap if gap.size < size + MIN_SPAN_BYTES else Span(gap.file, gap.start, gap.start + size)


def _take_over_silent(at: _Situation) -> TakeOver | None:
    """All that a silent source was asked for."""
    for number, active in at.active.items():
        if at.is_silent(active):
            return TakeOver(number, active.span)
    return None


def _share_slowest(at: _Situation) -> TakeOver | None:
    """The end of the range that would be complete last, so that both sources finish at the same time."""
    if not at.active or not at.source.ranges:
        return None
    last = max(at.active, key=lambda number: at.others[number].seconds_for(at.active[number].span.size))
    span, rate, other = at.active[last].span, at.source.rate, at.others[last].rate
    share = rate / (rate + other) if rate and other else 0.5
    end = Span(span.file, span.end - int(span.size * share), span.end)
    return TakeOver(last, end) if end.size >= MIN_SPAN_BYTES // 2 else None


# Spans of one file, as pairs of start and end


def merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same bytes as the fewest pairs of start and end, in order."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def lacking(size: int, have: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans of a file of `size` bytes that are not in `have`."""
    gaps, at = [], 0
    for start, end in merged(have):
        if start > at:
            gaps.append((at, start))
        at = max(at, end)
    return [*gaps, (at, size)] if at < size else gaps
