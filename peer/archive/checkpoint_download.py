"""The files of one checkpoint from several sources at once: `ranges` decides who gives what, this does it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Protocol

from typing_extensions import assert_never

from barnraise.core.errors import BarnraiseError, HashMismatch, MalformedRecord, TrustError, Unreachable
from barnraise.core.ids import BlobHash, short
from peer.archive.checkpoint_sources import Candidate, CheckpointSource
from peer.archive.partial_file import EARLIER, PartialFile, SpansBySource
from peer.archive.range_picker import (
    Assignment,
    DropSource,
    FetchSpan,
    SourceView,
    Span,
    StandBy,
    TakeOver,
    WaitUntil,
    next_step,
)
from peer.archive.sources import Missing

MEASURED_BYTES = 256 * 1024
MEASURED_SECONDS = 2.0
"""Less than both says nothing of a source's speed."""


class DownloadListener(Protocol):
    """Who is told how it goes."""

    def file(self, name: str, length: int, got: int) -> None:
        """A file that is to be fetched, and how many of its bytes are there."""
        ...

    def got(self, name: str, count: int) -> None: ...

    def again(self, name: str) -> None:
        """Its bytes were false, and it is fetched anew."""
        ...

    def done(self, name: str) -> None: ...

    def say(self, text: str) -> None: ...


@dataclass
class _SourceState:
    """What is known of one source, and what it is at."""

    number: int
    supplier: CheckpointSource
    rate: float | None = None
    failures: int = 0
    failed_at: float = -math.inf
    reason: str = ""
    span: Span | None = None
    """What it owes; its start moves on as bytes come, its end when another takes over."""
    stream: asyncio.Task[None] | None = None
    began: float = 0.0
    last_byte_at: float = 0.0
    got: int = 0
    """Bytes since `began`."""
    dropped: bool = False

    @property
    def name(self) -> str:
        return self.supplier.source.name

    def view(self, now: float) -> SourceView:
        work = Assignment(self.span, self.last_byte_at) if self.span is not None else None
        return SourceView(
            self._rate(now), self.supplier.source.ranges, self.failures, self.failed_at, self.reason, work
        )

    def _rate(self, now: float) -> float | None:
        if self.span is None or not self.is_measured(now):
            return self.rate
        live = self.got / (now - self.began)
        return live if self.rate is None else min(live, self.rate)

    def is_measured(self, now: float) -> bool:
        """Whether the present range says something of the source's speed."""
        seconds = now - self.began
        return seconds > 0 and (self.got >= MEASURED_BYTES or seconds >= MEASURED_SECONDS)


@dataclass
class CheckpointDownload:
    """Gets `parts` whole. `run` it once."""

    parts: Sequence[PartialFile]
    listener: DownloadListener
    clock: Callable[[], float]
    """Seconds."""
    _gaps: list[Span] = field(default_factory=list, init=False)
    _exclusive: dict[int, int | None] = field(default_factory=dict, init=False)
    """Files that came false from several: each is fetched anew from one source, which then answers for it."""
    _received_aside: dict[int, SpansBySource] = field(default_factory=dict, init=False)
    """Who gave what of their false bytes."""
    _open: set[int] = field(default_factory=set, init=False)
    """Files that are not whole yet."""
    _unchecked: set[int] = field(default_factory=set, init=False)
    """Those of them whose bytes are not all there, so that nobody looks at them twice."""
    _sources: dict[int, _SourceState] = field(default_factory=dict, init=False)
    _faults: list[BarnraiseError] = field(default_factory=list, init=False)
    """Why sources were left."""
    _changed: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    async def run(self, candidates: Sequence[Candidate]) -> None:
        """What came so far stays on disk, however it ends.

        Raises Unreachable when no source is left, HashMismatch when the last one gave false bytes, DiskFull.
        """
        for number, part in enumerate(self.parts):
            self.listener.file(part.entry.name, part.entry.size, part.got)
            self._open.add(number)
            self._unchecked.add(number)
            self._gaps += [Span(number, start, end) for start, end in part.lacking()]
        try:
            for number, part in enumerate(self.parts):
                if not part.lacking():
                    await self._check(number)
            await self._run_sources(candidates)
        finally:
            for part in self.parts:
                part.save_progress()
                part.close()
                part.clear_aside()
        if self._open:
            raise self._failure()

    async def _run_sources(self, candidates: Sequence[Candidate]) -> None:
        tasks = [
            asyncio.create_task(self._run_source(number, candidate))
            for number, candidate in enumerate(candidates)
        ]
        try:
            while tasks and self._open:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                tasks = [task for task in tasks if task not in done]
                for task in done:
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)

    async def _run_source(self, number: int, candidate: Candidate) -> None:
        """Ask one source for what is decided, until everything is there or it is left."""
        try:
            me = _SourceState(number, await candidate.find())
        except (Unreachable, TrustError) as error:
            self._dropped(candidate.name, error)
            return
        self._sources[number] = me
        told = False
        while self._open and not me.dropped:
            now = self.clock()
            views = {other.number: other.view(now) for other in self._sources.values()}
            match next_step(now, number, views, self._gaps, self._exclusive):
                case FetchSpan(span):
                    await self._fetch(me, self._claim(span, number))
                case TakeOver(source, span):
                    await self._fetch(me, self._take_over(self._sources[source], span))
                case WaitUntil(until):
                    await self._wait_for_change(until)
                case StandBy(reason, until):
                    if not told:
                        self.listener.say(f"{me.name} is left aside: {reason}")
                        told = True
                    await self._wait_for_change(until)
                case DropSource(reason):
                    self._drop(me, Unreachable(reason, fix="Run the command again: it goes on from there."))
                case step:
                    assert_never(step)

    def _claim(self, span: Span, number: int) -> Span:
        gap = next(gap for gap in self._gaps if (gap.file, gap.start) == (span.file, span.start))
        place = self._gaps.index(gap)
        self._gaps[place : place + 1] = [Span(gap.file, span.end, gap.end)] if span.end < gap.end else []
        if span.file in self._exclusive:
            self._exclusive[span.file] = number
        return span

    def _take_over(self, victim: _SourceState, span: Span) -> Span:
        assert victim.span is not None
        victim.span = Span(span.file, victim.span.start, span.start)
        if not victim.span.size and victim.stream is not None:
            self.listener.say(f"{victim.name} sends nothing; another source goes on with what it owes")
            victim.stream.cancel()
        return span

    async def _fetch(self, me: _SourceState, span: Span) -> None:
        me.span, me.got = span, 0
        me.began = me.last_byte_at = self.clock()
        stream = me.stream = asyncio.create_task(self._receive(me))
        try:
            await asyncio.wait([stream])
        finally:
            stream.cancel()
            await asyncio.wait([stream])
            error = None if stream.cancelled() else stream.exception()
            now, rest = self.clock(), me.span
            if me.is_measured(now):
                rate = me.got / (now - me.began)
                me.rate = rate if me.rate is None else (me.rate + rate) / 2
            me.span = me.stream = None
            if rest.size and self._exclusive.get(rest.file, me.number) == me.number:
                self._gaps.insert(0, rest)
            self.parts[span.file].save_progress()
            self._notify()
        if not me.dropped:
            self._settle_fetch(me, error, cut=stream.cancelled())
        if not self.parts[span.file].lacking():
            await self._check(span.file)

    def _settle_fetch(self, me: _SourceState, error: BaseException | None, *, cut: bool) -> None:
        if cut:
            me.failures, me.failed_at, me.reason = me.failures + 1, self.clock(), "it sends nothing"
        elif isinstance(error, Missing | MalformedRecord):
            self._drop(me, error)
        elif isinstance(error, Unreachable):
            me.failures, me.failed_at, me.reason = me.failures + 1, self.clock(), error.problem
            self.listener.say(f"{error.problem}; asking again")
        elif error is not None:
            raise error

    async def _receive(self, me: _SourceState) -> None:
        assert me.span is not None
        part = self.parts[me.span.file]
        name = part.entry.name
        stream = me.supplier.source.read(me.supplier.path(name), me.span.start, me.span.size)
        async with aclosing(stream) as pieces:
            async for piece in pieces:
                mine = piece[: me.span.size]  # another may have taken over the rest
                if not mine:
                    return
                part.write(me.span.start, mine, me.number)
                me.span = Span(me.span.file, me.span.start + len(mine), me.span.end)
                me.last_byte_at, me.got, me.failures = self.clock(), me.got + len(mine), 0
                self.listener.got(name, len(mine))
                if not me.span.size:
                    return

    async def _check(self, number: int) -> None:
        """All bytes of a file are there: it is whole, or somebody gave false ones."""
        if number not in self._unchecked:
            return
        self._unchecked.discard(number)
        part = self.parts[number]
        found = await asyncio.to_thread(part.finish)
        if found == part.entry.hash:
            self._open.discard(number)
            self._exclusive.pop(number, None)
            self.listener.done(part.entry.name)
            if number in self._received_aside:
                guilty = await asyncio.to_thread(
                    part.sources_of_false_bytes, self._received_aside.pop(number)
                )
                for source in guilty - {EARLIER}:
                    self._drop_for_false_bytes(part, source, None)
            self._notify()
            return
        self.listener.again(part.entry.name)
        sources = part.sources
        if not sources:
            raise HashMismatch(
                f"{part.entry.name} is said to be empty and to have the hash {short(part.entry.hash)}",
                fix="Tell the run's maintainer: this checkpoint cannot be.",
            )
        if len(sources) == 1 and EARLIER not in sources:
            part.restart()
            self._drop_for_false_bytes(part, sources.pop(), found)
        else:
            self.listener.say(
                f"{part.entry.name} is not what was signed: fetching it from one source at a time"
            )
            self._received_aside[number] = part.set_aside()
            self._exclusive[number] = None
        self._refetch(number)

    def _drop_for_false_bytes(self, part: PartialFile, source: int | None, found: BlobHash | None) -> None:
        asked = next((asked for asked in self._sources.values() if asked.number == source), None)
        if asked is None:  # it was left before
            return
        hashed = "has other bytes" if found is None else f"hashes to {short(found)}"
        self._drop(
            asked,
            HashMismatch(
                f"{part.entry.name} of {asked.name} {hashed}, the manifest says {short(part.entry.hash)}",
                fix="It was removed. Take another source, and tell whoever runs this one.",
            ),
        )

    def _drop(self, asked: _SourceState, error: BarnraiseError) -> None:
        asked.dropped = True
        del self._sources[asked.number]
        if asked.stream is not None:
            asked.stream.cancel()
        for file in [file for file, owner in self._exclusive.items() if owner == asked.number]:
            self._exclusive[file] = None
            self.parts[file].restart()
            self.listener.again(self.parts[file].entry.name)
            self._refetch(file)
        self._dropped(asked.name, error)

    def _dropped(self, name: str, error: BarnraiseError) -> None:
        self._faults.append(error)
        self.listener.say(f"left {name}: {error.problem}")
        self._notify()

    def _refetch(self, number: int) -> None:
        self._unchecked.add(number)
        self._gaps = [gap for gap in self._gaps if gap.file != number]
        self._gaps.insert(0, Span(number, 0, self.parts[number].entry.size))
        self._notify()

    def _failure(self) -> BarnraiseError:
        false = [fault for fault in self._faults if isinstance(fault, TrustError)]
        return (false or self._faults)[-1]

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _wait_for_change(self, until: float | None) -> None:
        """Until something changed, or that time has come."""
        seconds = None if until is None else max(0.0, until - self.clock())
        try:
            await asyncio.wait_for(self._changed.wait(), seconds)
        except asyncio.TimeoutError:
            return
