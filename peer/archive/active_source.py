"""One source of a download that runs: what it is fetching, and how fast and reliable it has been."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from barnraise.network.blobs.reputation import smoothed_rate
from peer.archive.events import SourceFailure
from peer.archive.range_picker import ActiveRange, SourceView, Span
from peer.archive.sources import CheckpointSource
from peer.timing import TIMING, Timing

MEASURED_BYTES = 256 * 1024
"""A range of this size measures its source's speed, however short it took."""
NEWEST_WEIGHT = 0.5
"""Weight of the newest range in a source's measured rate."""


@dataclass
class ActiveSource:
    """Times are seconds of the download's clock."""

    number: int
    checkpoint: CheckpointSource
    timing: Timing = TIMING
    dropped: bool = False
    span: Span | None = None
    """The requested bytes that have not arrived. The end moves when another source takes over a part."""
    _stream: asyncio.Task[None] | None = None
    _rate: float | None = None
    _failures: int = 0
    _failed_at: float = -math.inf
    _failure: SourceFailure | None = None
    _began: float = 0.0
    _last_byte_at: float = 0.0
    _received: int = 0
    """Bytes since `_began`."""

    @property
    def name(self) -> str:
        """For people."""
        return self.checkpoint.name

    def view(self, now: float) -> SourceView:
        """What the range picker needs to know."""
        active = ActiveRange(self.span, self._last_byte_at) if self.span is not None else None
        return SourceView(
            self._present_rate(now),
            self.checkpoint.ranges,
            self._failures,
            self._failed_at,
            self._failure,
            active,
        )

    def begin(self, span: Span, now: float) -> None:
        """A range is requested from it."""
        self.span, self._received = span, 0
        self._began = self._last_byte_at = now

    def run(self, stream: asyncio.Task[None]) -> None:
        """The task that reads the range."""
        self._stream = stream

    def read(self, file: str) -> AsyncGenerator[bytes, None]:
        """The bytes of `span`, of the file with this name. Raises as `Source.read`."""
        assert self.span is not None
        return self.checkpoint.read(file, self.span.start, self.span.size)

    def received(self, count: int, now: float) -> None:
        """`count` bytes of `span` have arrived."""
        assert self.span is not None
        self.span = Span(self.span.file, self.span.start + count, self.span.end)
        self._last_byte_at, self._failures = now, 0
        self._received += count

    def cut(self, end: int) -> bool:
        """Another source takes over the bytes from `end` on. Returns True if the request ends."""
        assert self.span is not None
        self.span = Span(self.span.file, self.span.start, end)
        if self.span.size or self._stream is None:
            return False
        self._stream.cancel()
        return True

    def end(self, now: float) -> Span:
        """The request is over. Returns what has not arrived."""
        assert self.span is not None
        rest, self.span, self._stream = self.span, None, None
        if self._is_measured(now):
            self._rate = smoothed_rate(self._rate, self._received / (now - self._began), NEWEST_WEIGHT)
        return rest

    def failed(self, failure: SourceFailure, now: float) -> None:
        """A request failed."""
        self._failures, self._failed_at, self._failure = self._failures + 1, now, failure

    def drop(self) -> None:
        """Ask it no more, and end its request."""
        self.dropped = True
        if self._stream is not None:
            self._stream.cancel()

    def _present_rate(self, now: float) -> float | None:
        if self.span is None or not self._is_measured(now):
            return self._rate
        present = self._received / (now - self._began)
        return present if self._rate is None else min(present, self._rate)

    def _is_measured(self, now: float) -> bool:
        """Whether the present range is long enough to measure the source's speed."""
        seconds = now - self._began
        return seconds > 0 and (self._received >= MEASURED_BYTES or seconds >= self.timing.measured)
