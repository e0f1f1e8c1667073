"""Which source gives which bytes next: pure. Times are seconds of any clock that only goes forward.

A source that has nothing to do gets a range, the larger the faster it is. When nothing is left to hand out,
it takes over what another would need longest for, so that no slow or silent one is waited for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

SPAN_SECONDS = 5.0
"""A source gets about as much as it gives in this time."""
MIN_SPAN_BYTES, MAX_SPAN_BYTES = 2**20, 64 * 2**20
"""Bytes of a range, where the file has as many."""
PATIENCE_SECONDS = 5.0
"""What a source owes for so long without a byte, another one takes over."""
MAX_FAILURES = 3
"""Failures in a row, without a byte between them, after which a source is left."""
RETRY_SECONDS = 1.0
"""Pause after the first failure; each further one takes four times as long."""
SLOW_SHARE = 0.02
"""A source that is slower than this share of the fastest is not asked while that one works."""


@dataclass(frozen=True)
class Span:
    """Bytes `start` to `end` (not included) of the file with the number `file`."""

    file: int
    start: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.start


@dataclass(frozen=True)
class Assignment:
    """What a source is at."""

    span: Span
    """What it still owes."""
    last_byte_at: float
    """When its last byte came, or the request went out."""


@dataclass(frozen=True)
class SourceView:
    """A source as it is known by now."""

    rate: float | None
    """Bytes a second; None before anything came."""
    ranges: bool = True
    """Whether it can begin in the middle of a file."""
    failures: int = 0
    """In a row."""
    failed_at: float = -math.inf
    """When it failed last."""
    reason: str = ""
    """Of its last failure."""
    assignment: Assignment | None = None

    def seconds_for(self, size: int) -> float:
        return size / self.rate if self.rate else math.inf


@dataclass(frozen=True)
class FetchSpan:
    """Ask for these bytes."""

    span: Span


@dataclass(frozen=True)
class TakeOver:
    """Ask for these bytes; `source` is asked for them no more."""

    source: int
    span: Span


@dataclass(frozen=True)
class WaitUntil:
    until: float | None
    """None: until something changes."""


@dataclass(frozen=True)
class StandBy:
    """Do nothing while better ones work; look again then, or when something changes."""

    reason: str
    until: float | None


@dataclass(frozen=True)
class DropSource:
    """Never ask this source again."""

    reason: str


Step = FetchSpan | TakeOver | WaitUntil | StandBy | DropSource


def next_step(
    now: float,
    me: int,
    sources: Mapping[int, SourceView],
    gaps: Sequence[Span],
    exclusive: Mapping[int, int | None],
) -> Step:
    """What the idle source `me` does.

    givers: those that were not left. gaps: bytes that nobody is asked for. alone: files that come from one
    source only, so that a false byte tells on it; None where none has begun.
    """
    source = sources[me]
    others = {number: other for number, other in sources.items() if number != me}
    if source.failures >= MAX_FAILURES:
        return DropSource(source.reason)
    if source.failures and now < (retry_at := _retry_at(source)):
        return WaitUntil(retry_at)
    for gap in gaps:
        if exclusive.get(gap.file) == me:
            return FetchSpan(gap)
    working = {number: other for number, other in others.items() if _is_working(now, other)}
    if (reason := _no_better_than(me, source, working)) is not None:
        return StandBy(reason, _silent_at(working))
    for gap in gaps:
        if exclusive.get(gap.file) is None:
            whole = not others or not source.ranges or gap.file in exclusive
            return FetchSpan(gap if whole else _front(gap, source.rate))
    return _take_over(now, source, others, exclusive)


def _retry_at(source: SourceView) -> float:
    return source.failed_at + RETRY_SECONDS * 4 ** (source.failures - 1)


def _is_working(now: float, source: SourceView) -> bool:
    return not source.failures and (
        source.assignment is None or now < source.assignment.last_byte_at + PATIENCE_SECONDS
    )


def _silent_at(sources: Mapping[int, SourceView]) -> float | None:
    """When the first of them will have been silent for too long."""
    last_byte_at = [
        source.assignment.last_byte_at for source in sources.values() if source.assignment is not None
    ]
    return min(last_byte_at) + PATIENCE_SECONDS if last_byte_at else None


def _no_better_than(me: int, source: SourceView, working: Mapping[int, SourceView]) -> str | None:
    """Why a source is not needed while others work. One of them always is."""
    if not source.ranges and any(other.ranges or number < me for number, other in working.items()):
        return "it cannot begin in the middle of a file"
    rates = [other.rate for other in working.values() if other.ranges and other.rate is not None]
    if source.rate is not None and rates and source.rate < SLOW_SHARE * max(rates):
        return f"it gives {source.rate / 1000:,.0f} kB/s, another {max(rates) / 1000:,.0f} kB/s"
    return None


def _front(gap: Span, rate: float | None) -> Span:
    size = int(min(MAX_SPAN_BYTES, max(MIN_SPAN_BYTES, (rate or 0.0) * SPAN_SECONDS)))
    return gap if gap.size < size + MIN_SPAN_BYTES else Span(gap.file, gap.start, gap.start + size)


def _take_over(
    now: float, source: SourceView, others: Mapping[int, SourceView], exclusive: Mapping[int, int | None]
) -> TakeOver | WaitUntil:
    assigned = {
        number: other.assignment
        for number, other in others.items()
        if other.assignment is not None
        and other.assignment.span.size
        and other.assignment.span.file not in exclusive
    }
    for number, assignment in assigned.items():
        if now >= assignment.last_byte_at + PATIENCE_SECONDS:
            return TakeOver(number, assignment.span)
    if not assigned or not source.ranges:
        return WaitUntil(None)
    last = max(assigned, key=lambda number: others[number].seconds_for(assigned[number].span.size))
    span, rate = assigned[last].span, others[last].rate
    share = (
        source.rate / (source.rate + rate) if source.rate and rate else 0.5
    )  # both are done at one time then
    mine = Span(span.file, span.end - int(span.size * share), span.end)
    if mine.size >= MIN_SPAN_BYTES // 2:
        return TakeOver(last, mine)
    return WaitUntil(min(assignment.last_byte_at for assignment in assigned.values()) + PATIENCE_SECONDS)


def merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same bytes as few pairs of start and end, in order."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def lacking(size: int, have: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """What of a file of `size` bytes is not among `have`."""
    gaps, at = [], 0
    for start, end in merged(have):
        if start > at:
            gaps.append((at, start))
        at = max(at, end)
    return [*gaps, (at, size)] if at < size else gaps
