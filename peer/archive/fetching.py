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
from peer.archive.parts import EARLIER, Given, Part
from peer.archive.ranges import Giver, Leave, Span, StandBy, Take, TakeOver, Wait, Work, next_step
from peer.archive.sources import Missing
from peer.archive.suppliers import Candidate, Supplier

MEASURED_BYTES = 256 * 1024
MEASURED_SECONDS = 2.0
"""Less than both says nothing of a source's speed."""


class Watch(Protocol):
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
class _Asked:
    """What is known of one source, and what it is at."""

    number: int
    supplier: Supplier
    rate: float | None = None
    failures: int = 0
    failed: float = -math.inf
    reason: str = ""
    span: Span | None = None
    """What it owes; its start moves on as bytes come, its end when another takes over."""
    stream: asyncio.Task[None] | None = None
    began: float = 0.0
    heard: float = 0.0
    got: int = 0
    """Bytes since `began`."""
    left: bool = False

    @property
    def name(self) -> str:
        return self.supplier.source.name

    def seen(self, now: float) -> Giver:
        work = Work(self.span, self.heard) if self.span is not None else None
        return Giver(
            self._rate(now), self.supplier.source.ranges, self.failures, self.failed, self.reason, work
        )

    def _rate(self, now: float) -> float | None:
        if self.span is None or not self.tells(now):
            return self.rate
        live = self.got / (now - self.began)
        return live if self.rate is None else min(live, self.rate)

    def tells(self, now: float) -> bool:
        """Whether the present range says something of the source's speed."""
        seconds = now - self.began
        return seconds > 0 and (self.got >= MEASURED_BYTES or seconds >= MEASURED_SECONDS)


@dataclass
class Fetching:
    """Gets `parts` whole. `run` it once."""

    parts: Sequence[Part]
    watch: Watch
    clock: Callable[[], float]
    """Seconds."""
    _gaps: list[Span] = field(default_factory=list, init=False)
    _alone: dict[int, int | None] = field(default_factory=dict, init=False)
    """Files that came false from several: each is fetched anew from one source, which then answers for it."""
    _aside: dict[int, Given] = field(default_factory=dict, init=False)
    """Who gave what of their false bytes."""
    _open: set[int] = field(default_factory=set, init=False)
    """Files that are not whole yet."""
    _unchecked: set[int] = field(default_factory=set, init=False)
    """Those of them whose bytes are not all there, so that nobody looks at them twice."""
    _asked: dict[int, _Asked] = field(default_factory=dict, init=False)
    _faults: list[BarnraiseError] = field(default_factory=list, init=False)
    """Why sources were left."""
    _changed: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    async def run(self, candidates: Sequence[Candidate]) -> None:
        """What came so far stays on disk, however it ends.

        Raises Unreachable when no source is left, HashMismatch when the last one gave false bytes, DiskFull.
        """
        for number, part in enumerate(self.parts):
            self.watch.file(part.entry.name, part.entry.size, part.got)
            self._open.add(number)
            self._unchecked.add(number)
            self._gaps += [Span(number, start, end) for start, end in part.lacking()]
        try:
            for number, part in enumerate(self.parts):
                if not part.lacking():
                    await self._check(number)
            await self._all(candidates)
        finally:
            for part in self.parts:
                part.note()
                part.close()
                part.clear_aside()
        if self._open:
            raise self._verdict()

    async def _all(self, candidates: Sequence[Candidate]) -> None:
        tasks = [
            asyncio.create_task(self._ask(number, candidate)) for number, candidate in enumerate(candidates)
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

    async def _ask(self, number: int, candidate: Candidate) -> None:
        """Ask one source for what is decided, until everything is there or it is left."""
        try:
            me = _Asked(number, await candidate.find())
        except (Unreachable, TrustError) as error:
            self._left(candidate.name, error)
            return
        self._asked[number] = me
        told = False
        while self._open and not me.left:
            now = self.clock()
            views = {other.number: other.seen(now) for other in self._asked.values()}
            match next_step(now, number, views, self._gaps, self._alone):
                case Take(span):
                    await self._fetch(me, self._taken(span, number))
                case TakeOver(giver, span):
                    await self._fetch(me, self._taken_over(self._asked[giver], span))
                case Wait(until):
                    await self._change(until)
                case StandBy(reason, until):
                    if not told:
                        self.watch.say(f"{me.name} is left aside: {reason}")
                        told = True
                    await self._change(until)
                case Leave(reason):
                    self._leave(me, Unreachable(reason, fix="Run the command again: it goes on from there."))
                case step:
                    assert_never(step)

    def _taken(self, span: Span, number: int) -> Span:
        gap = next(gap for gap in self._gaps if (gap.file, gap.start) == (span.file, span.start))
        place = self._gaps.index(gap)
        self._gaps[place : place + 1] = [Span(gap.file, span.end, gap.end)] if span.end < gap.end else []
        if span.file in self._alone:
            self._alone[span.file] = number
        return span

    def _taken_over(self, victim: _Asked, span: Span) -> Span:
        assert victim.span is not None
        victim.span = Span(span.file, victim.span.start, span.start)
        if not victim.span.size and victim.stream is not None:
            self.watch.say(f"{victim.name} sends nothing; another source goes on with what it owes")
            victim.stream.cancel()
        return span

    async def _fetch(self, me: _Asked, span: Span) -> None:
        me.span, me.got = span, 0
        me.began = me.heard = self.clock()
        stream = me.stream = asyncio.create_task(self._receive(me))
        try:
            await asyncio.wait([stream])
        finally:
            stream.cancel()
            await asyncio.wait([stream])
            failed = None if stream.cancelled() else stream.exception()
            now, rest = self.clock(), me.span
            if me.tells(now):
                rate = me.got / (now - me.began)
                me.rate = rate if me.rate is None else (me.rate + rate) / 2
            me.span = me.stream = None
            if rest.size and self._alone.get(rest.file, me.number) == me.number:
                self._gaps.insert(0, rest)
            self.parts[span.file].note()
            self._tell_all()
        if not me.left:
            self._reckon(me, failed, cut=stream.cancelled())
        if not self.parts[span.file].lacking():
            await self._check(span.file)

    def _reckon(self, me: _Asked, failed: BaseException | None, *, cut: bool) -> None:
        if cut:
            me.failures, me.failed, me.reason = me.failures + 1, self.clock(), "it sends nothing"
        elif isinstance(failed, Missing | MalformedRecord):
            self._leave(me, failed)
        elif isinstance(failed, Unreachable):
            me.failures, me.failed, me.reason = me.failures + 1, self.clock(), failed.problem
            self.watch.say(f"{failed.problem}; asking again")
        elif failed is not None:
            raise failed

    async def _receive(self, me: _Asked) -> None:
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
                me.heard, me.got, me.failures = self.clock(), me.got + len(mine), 0
                self.watch.got(name, len(mine))
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
            self._alone.pop(number, None)
            self.watch.done(part.entry.name)
            if number in self._aside:
                guilty = await asyncio.to_thread(part.falsifiers, self._aside.pop(number))
                for giver in guilty - {EARLIER}:
                    self._leave_for_falsehood(part, giver, None)
            self._tell_all()
            return
        self.watch.again(part.entry.name)
        givers = part.givers
        if not givers:
            raise HashMismatch(
                f"{part.entry.name} is said to be empty and to have the hash {short(part.entry.hash)}",
                fix="Tell the run's maintainer: this checkpoint cannot be.",
            )
        if len(givers) == 1 and EARLIER not in givers:
            part.restart()
            self._leave_for_falsehood(part, givers.pop(), found)
        else:
            self.watch.say(f"{part.entry.name} is not what was signed: fetching it from one source at a time")
            self._aside[number] = part.set_aside()
            self._alone[number] = None
        self._anew(number)

    def _leave_for_falsehood(self, part: Part, giver: int | None, found: BlobHash | None) -> None:
        asked = next((asked for asked in self._asked.values() if asked.number == giver), None)
        if asked is None:  # it was left before
            return
        hashed = "has other bytes" if found is None else f"hashes to {short(found)}"
        self._leave(
            asked,
            HashMismatch(
                f"{part.entry.name} of {asked.name} {hashed}, the manifest says {short(part.entry.hash)}",
                fix="It was removed. Take another source, and tell whoever runs this one.",
            ),
        )

    def _leave(self, asked: _Asked, error: BarnraiseError) -> None:
        asked.left = True
        del self._asked[asked.number]
        if asked.stream is not None:
            asked.stream.cancel()
        for file in [file for file, owner in self._alone.items() if owner == asked.number]:
            self._alone[file] = None
            self.parts[file].restart()
            self.watch.again(self.parts[file].entry.name)
            self._anew(file)
        self._left(asked.name, error)

    def _left(self, name: str, error: BarnraiseError) -> None:
        self._faults.append(error)
        self.watch.say(f"left {name}: {error.problem}")
        self._tell_all()

    def _anew(self, number: int) -> None:
        self._unchecked.add(number)
        self._gaps = [gap for gap in self._gaps if gap.file != number]
        self._gaps.insert(0, Span(number, 0, self.parts[number].entry.size))
        self._tell_all()

    def _verdict(self) -> BarnraiseError:
        false = [fault for fault in self._faults if isinstance(fault, TrustError)]
        return (false or self._faults)[-1]

    def _tell_all(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _change(self, until: float | None) -> None:
        """Until something changed, or that time has come."""
        seconds = None if until is None else max(0.0, until - self.clock())
        try:
            await asyncio.wait_for(self._changed.wait(), seconds)
        except asyncio.TimeoutError:
            return
