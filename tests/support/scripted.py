"""A scripted archive source on the test's own clock, and a recorder of download events."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field, replace

from barnraise.core.errors import Unreachable
from barnraise.core.reason import Reason
from peer.archive.sources import Missing, checked, ended_early, too_large
from peer.timing import TIMING
from tests.support.programs import DEADLINE

PIECE = 262_144
NO_PAUSES = replace(TIMING, source_retry=0.0)
"""For downloads on real time: a failed source is retried at once."""


@dataclass
class Scripted:
    """A source whose speed and faults a test sets. It passes test_sources.py as the real ones do."""

    name: str
    files: Mapping[str, bytes]
    speed: float = 1e6
    """Bytes per second."""
    ranges: bool = True
    false: Mapping[str, int] = field(default_factory=dict)
    """By path: the place of a byte that is sent flipped."""
    silent_after: float = float("inf")
    """Bytes sent in all after which it stalls."""
    recovers: bool = False
    """The stall ends with the next request."""
    breaks_after: float = float("inf")
    """Bytes sent in all after which it is unreachable."""
    given: int = 0
    asked: list[tuple[str, int, int]] = field(default_factory=list)

    async def get_small(self, path: str, limit: int) -> bytes:
        data = self._file(path)
        if len(data) > limit:
            raise too_large(path, limit)
        return data

    async def read(self, path: str, offset: int, length: int) -> AsyncGenerator[bytes, None]:
        data = self._file(path)
        self.asked.append((path, offset, length))
        if path in self.false:
            place = self.false[path]
            data = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        at = offset
        while at < offset + length:
            if self.given >= self.silent_after:
                if self.recovers:
                    self.silent_after = float("inf")
                await asyncio.Event().wait()
            if self.given >= self.breaks_after:
                raise Unreachable(f"{self.name} is offline", fix="Wait for it.")
            piece = data[at : min(at + PIECE, offset + length)]
            if not piece:
                raise ended_early(path, offset + length - at)
            await asyncio.sleep(len(piece) / self.speed)
            at += len(piece)
            self.given += len(piece)
            yield piece

    def _file(self, path: str) -> bytes:
        if checked(path) not in self.files:
            raise Missing(f"there is no {path} at {self.name}", fix="Try another one.")
        return self.files[path]


@dataclass
class RecordingListener:
    """Records what a download or an evaluation reports."""

    said: list[str] = field(default_factory=list)
    events: list[Reason] = field(default_factory=list)
    whole: list[str] = field(default_factory=list)
    resumed: set[str] = field(default_factory=set)
    """Files of which an earlier download had bytes."""
    counts: dict[str, int] = field(default_factory=dict)
    _spoke: threading.Condition = field(default_factory=threading.Condition)

    def wait_until(self, seen: Callable[[], bool]) -> None:
        """In another thread: wait until `seen` is true."""
        with self._spoke:
            assert self._spoke.wait_for(seen, DEADLINE)

    def file(self, name: str, length: int, got: int) -> None:
        self.counts[name] = got
        if got:
            self.resumed.add(name)

    def got(self, name: str, count: int) -> None:
        self.counts[name] += count

    def again(self, name: str) -> None:
        self.counts[name] = 0

    def done(self, name: str) -> None:
        self.whole.append(name)

    def report(self, event: Reason) -> None:
        with self._spoke:
            self.events.append(event)
            self._spoke.notify_all()

    def say(self, text: str) -> None:
        with self._spoke:
            self.said.append(text)
            self._spoke.notify_all()
