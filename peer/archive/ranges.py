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
LEAST, MOST = 2**20, 64 * 2**20
"""Bytes of a range, where the file has as many."""
PATIENCE_SECONDS = 5.0
"""What a source owes for so long without a byte, another one takes over."""
TRIES = 3
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
class Work:
    """What a source is at."""

    span: Span
    """What it still owes."""
    heard: float
    """When its last byte came, or the request went out."""


@dataclass(frozen=True)
class Giver:
    """A source as it is known by now."""

    rate: float | None
    """Bytes a second; None before anything came."""
    ranges: bool = True
    """Whether it can begin in the middle of a file."""
    failures: int = 0
    """In a row."""
    failed: float = -math.inf
    """When it failed last."""
    reason: str = ""
    """Of its last failure."""
    work: Work | None = None

    def seconds_for(self, size: int) -> float:
        return size / self.rate if self.rate else math.inf


@dataclass(frozen=True)
class Take:
    """Ask for these bytes."""

    span: Span


@dataclass(frozen=True)
class TakeOver:
    """Ask for these bytes; `giver` is asked for them no more."""

    giver: int
    span: Span


@dataclass(frozen=True)
class Wait:
    until: float | None
    """None: until something changes."""


@dataclass(frozen=True)
class StandBy:
    """Do nothing while better ones work; look again then, or when something changes."""

    reason: str
    until: float | None


@dataclass(frozen=True)
class Leave:
    """Never ask this source again."""

    reason: str


Step = Take | TakeOver | Wait | StandBy | Leave


def next_step(
    now: float,
    me: int,
    givers: Mapping[int, Giver],
    gaps: Sequence[Span],
    alone: Mapping[int, int | None],
) -> Step:
    """What the idle source `me` does.

    givers: those that were not left. gaps: bytes that nobody is asked for. alone: files that come from one
    source only, so that a false byte tells on it; None where none has begun.
    """
    giver = givers[me]
    others = {number: other for number, other in givers.items() if number != me}
    if giver.failures >= TRIES:
        return Leave(giver.reason)
    if giver.failures and now < (again := _again(giver)):
        return Wait(again)
    for gap in gaps:
        if alone.get(gap.file) == me:
            return Take(gap)
    working = {number: other for number, other in others.items() if _works(now, other)}
    if (reason := _no_better_than(me, giver, working)) is not None:
        return StandBy(reason, _silent_at(working))
    for gap in gaps:
        if alone.get(gap.file) is None:
            whole = not others or not giver.ranges or gap.file in alone
            return Take(gap if whole else _front(gap, giver.rate))
    return _take_over(now, giver, others, alone)


def _again(giver: Giver) -> float:
    return giver.failed + RETRY_SECONDS * 4 ** (giver.failures - 1)


def _works(now: float, giver: Giver) -> bool:
    return not giver.failures and (giver.work is None or now < giver.work.heard + PATIENCE_SECONDS)


def _silent_at(givers: Mapping[int, Giver]) -> float | None:
    """When the first of them will have been silent for too long."""
    heard = [giver.work.heard for giver in givers.values() if giver.work is not None]
    return min(heard) + PATIENCE_SECONDS if heard else None


def _no_better_than(me: int, giver: Giver, working: Mapping[int, Giver]) -> str | None:
    """Why a source is not needed while others work. One of them always is."""
    if not giver.ranges and any(other.ranges or number < me for number, other in working.items()):
        return "it cannot begin in the middle of a file"
    rates = [other.rate for other in working.values() if other.ranges and other.rate is not None]
    if giver.rate is not None and rates and giver.rate < SLOW_SHARE * max(rates):
        return f"it gives {giver.rate / 1000:,.0f} kB/s, another {max(rates) / 1000:,.0f} kB/s"
    return None


def _front(gap: Span, rate: float | None) -> Span:
    size = int(min(MOST, max(LEAST, (rate or 0.0) * SPAN_SECONDS)))
    return gap if gap.size < size + LEAST else Span(gap.file, gap.start, gap.start + size)


def _take_over(
    now: float, giver: Giver, others: Mapping[int, Giver], alone: Mapping[int, int | None]
) -> TakeOver | Wait:
    works = {
        number: other.work
        for number, other in others.items()
        if other.work is not None and other.work.span.size and other.work.span.file not in alone
    }
    for number, work in works.items():
        if now >= work.heard + PATIENCE_SECONDS:
            return TakeOver(number, work.span)
    if not works or not giver.ranges:
        return Wait(None)
    last = max(works, key=lambda number: others[number].seconds_for(works[number].span.size))
    span, rate = works[last].span, others[last].rate
    share = giver.rate / (giver.rate + rate) if giver.rate and rate else 0.5  # both are done at one time then
    mine = Span(span.file, span.end - int(span.size * share), span.end)
    if mine.size >= LEAST // 2:
        return TakeOver(last, mine)
    return Wait(min(work.heard for work in works.values()) + PATIENCE_SECONDS)


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
