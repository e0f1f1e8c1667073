"""Downloads the files of one checkpoint from several sources at once, as `range_picker` decides."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from typing_extensions import assert_never

from barnraise.core.errors import BarnraiseError, HashMismatch, MalformedRecord, TrustError, Unreachable
from barnraise.core.ids import BlobHash, short
from peer.archive.active_source import ActiveSource
from peer.archive.events import (
    ArchiveEvent,
    DownloadListener,
    FileMismatched,
    RequestFailed,
    SentNothing,
    SourceDropped,
    SourceFailure,
    SourceRetried,
    SourceSilent,
    SourceStandsBy,
)
from peer.archive.partial_file import EARLIER, PartialFile, SpansBySource
from peer.archive.range_picker import (
    DropSource,
    FetchSpan,
    Span,
    StandBy,
    TakeOver,
    WaitUntil,
    next_step,
)
from peer.archive.range_queue import RangeQueue
from peer.archive.sources import Candidate, Missing
from peer.timing import TIMING, Timing


@dataclass
class CheckpointDownload:
    """Completes `parts`. `run` it once."""

    parts: Sequence[PartialFile]
    listener: DownloadListener[ArchiveEvent]
    clock: Callable[[], float]
    """Seconds."""
    timing: Timing = TIMING
    _queue: RangeQueue = field(default_factory=RangeQueue, init=False)
    _set_aside: dict[int, SpansBySource] = field(default_factory=dict, init=False)
    """By file that was wrong and is fetched again: which source served which bytes."""
    _incomplete: set[int] = field(default_factory=set, init=False)
    """Files whose hash is not yet the manifest's."""
    _unchecked: set[int] = field(default_factory=set, init=False)
    """Those of them that still lack bytes, so that each is checked once."""
    _sources: dict[int, ActiveSource] = field(default_factory=dict, init=False)
    _faults: list[BarnraiseError] = field(default_factory=list, init=False)
    """Why sources were dropped."""
    _changed: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    async def run(self, candidates: Sequence[Candidate]) -> None:
        """Received bytes stay on disk, even when it fails.

        Raises Unreachable when no source is left, HashMismatch when one served wrong bytes, DiskFull.
        """
        for number, part in enumerate(self.parts):
            self.listener.file(part.entry.name, part.entry.size, part.got)
            self._incomplete.add(number)
            self._unchecked.add(number)
            self._queue.add(number, part.lacking())
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
        if self._incomplete:
            raise self._failure()

    async def _run_sources(self, candidates: Sequence[Candidate]) -> None:
        tasks = [
            asyncio.create_task(self._run_source(number, candidate))
            for number, candidate in enumerate(candidates)
        ]
        try:
            while tasks and self._incomplete:
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
        """Carry out the steps of one source until all files are complete or it is dropped."""
        try:
            source = ActiveSource(number, await candidate.find(), self.timing)
        except (Unreachable, TrustError) as error:
            self._dropped(candidate.name, error)
            return
        self._sources[number] = source
        stood_by = False
        while self._incomplete and not source.dropped:
            now = self.clock()
            views = {other.number: other.view(now) for other in self._sources.values()}
            step = next_step(now, number, views, self._queue.gaps, self._queue.exclusive, self.timing)
            match step:
                case FetchSpan(span):
                    self._queue.claim(span, number)
                    await self._fetch(source, span)
                case TakeOver(owing, span):
                    self._take_over(self._sources[owing], span)
                    await self._fetch(source, span)
                case WaitUntil(until):
                    await self._wait_for_change(until)
                case StandBy(reason, until):
                    if not stood_by:
                        self.listener.report(SourceStandsBy(source.name, reason))
                        stood_by = True
                    await self._wait_for_change(until)
                case DropSource(failure):
                    self._drop(source, _gave_up(source, failure))
                case _:
                    assert_never(step)

    def _take_over(self, owing: ActiveSource, span: Span) -> None:
        if owing.cut(span.start):
            self.listener.report(SourceSilent(owing.name))

    async def _fetch(self, source: ActiveSource, span: Span) -> None:
        source.begin(span, self.clock())
        stream = asyncio.create_task(self._receive(source))
        source.run(stream)
        try:
            await asyncio.wait([stream])
        finally:
            stream.cancel()
            await asyncio.wait([stream])
            self._queue.give_back(source.end(self.clock()), source.number)
            self.parts[span.file].save_progress()
            self._notify()
        if not source.dropped:
            self._judge(source, SentNothing() if stream.cancelled() else stream.exception())
        if not self.parts[span.file].lacking():
            await self._check(span.file)

    def _judge(self, source: ActiveSource, outcome: SentNothing | BaseException | None) -> None:
        """Drop a source, or note its failure, by how a request ended. Raises errors of this machine."""
        match outcome:
            case None:
                return
            case SentNothing():
                source.failed(outcome, self.clock())
            case Missing() | MalformedRecord():
                self._drop(source, outcome)
            case Unreachable():
                failure = RequestFailed(outcome.problem)
                source.failed(failure, self.clock())
                self.listener.report(SourceRetried(source.name, failure))
            case _:
                raise outcome

    async def _receive(self, source: ActiveSource) -> None:
        """Write the bytes of a source's range as they arrive; another source may take over the rest."""
        assert source.span is not None
        part = self.parts[source.span.file]
        async with aclosing(source.read(part.entry.name)) as pieces:
            async for piece in pieces:
                wanted = piece[: source.span.size]
                if not wanted:
                    return
                part.write(source.span.start, wanted, source.number)
                source.received(len(wanted), self.clock())
                self.listener.got(part.entry.name, len(wanted))
                if not source.span.size:
                    return

    async def _check(self, number: int) -> None:
        """All bytes of a file are here: it is complete, or a source served wrong ones."""
        if number not in self._unchecked:
            return
        self._unchecked.discard(number)
        part = self.parts[number]
        found = await asyncio.to_thread(part.finish)
        if found == part.entry.hash:
            await self._complete(number, part)
        else:
            self.listener.again(part.entry.name)
            self._mismatch(number, part, found)

    async def _complete(self, number: int, part: PartialFile) -> None:
        self._incomplete.discard(number)
        self._queue.complete(number)
        self.listener.done(part.entry.name)
        if number in self._set_aside:
            at_fault = await asyncio.to_thread(part.sources_of_false_bytes, self._set_aside.pop(number))
            for source in at_fault - {EARLIER}:
                self._drop_for_false_bytes(part, source, None)
        self._notify()

    def _mismatch(self, number: int, part: PartialFile, found: BlobHash) -> None:
        """Drop the source at fault where one served all bytes; else fetch the file from one at a time."""
        sources = part.sources
        if not sources:
            raise HashMismatch(
                f"{part.entry.name} is said to be empty and to have the hash {short(part.entry.hash)}",
                fix="Report it to the run's maintainer: this checkpoint is invalid.",
            )
        if len(sources) == 1 and EARLIER not in sources:
            part.restart()
            self._drop_for_false_bytes(part, sources.pop(), found)
        else:
            self.listener.report(FileMismatched(part.entry.name))
            self._set_aside[number] = part.set_aside()
            self._queue.make_exclusive(number)
        self._refetch(number)

    def _drop_for_false_bytes(self, part: PartialFile, number: int | None, found: BlobHash | None) -> None:
        source = next((each for each in self._sources.values() if each.number == number), None)
        if source is None:  # it was dropped before
            return
        hashed = "has other bytes" if found is None else f"hashes to {short(found)}"
        self._drop(
            source,
            HashMismatch(
                f"{part.entry.name} of {source.name} {hashed}, the manifest says {short(part.entry.hash)}",
                fix="It was removed. Use another source, and inform the operator of this one.",
            ),
        )

    def _drop(self, source: ActiveSource, error: BarnraiseError) -> None:
        del self._sources[source.number]
        source.drop()
        for file in self._queue.release(source.number):
            self.parts[file].restart()
            self.listener.again(self.parts[file].entry.name)
            self._refetch(file)
        self._dropped(source.name, error)

    def _dropped(self, name: str, error: BarnraiseError) -> None:
        self._faults.append(error)
        self.listener.report(SourceDropped(name, error.problem))
        self._notify()

    def _refetch(self, number: int) -> None:
        self._unchecked.add(number)
        self._queue.refetch(number, self.parts[number].entry.size)
        self._notify()

    def _failure(self) -> BarnraiseError:
        """Why the download failed: wrong bytes rather than sources that did not answer."""
        false = [fault for fault in self._faults if isinstance(fault, TrustError)]
        return (false or self._faults)[-1]

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _wait_for_change(self, until: float | None) -> None:
        """Wait until something changes, or until the time `until`."""
        seconds = None if until is None else max(0.0, until - self.clock())
        try:
            await asyncio.wait_for(self._changed.wait(), seconds)
        except asyncio.TimeoutError:
            return


def _gave_up(source: ActiveSource, failure: SourceFailure) -> Unreachable:
    problem = failure.problem if isinstance(failure, RequestFailed) else f"{source.name} sends nothing"
    return Unreachable(problem, fix="Run the command again: it resumes the download.")
