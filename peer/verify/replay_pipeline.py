"""Replay the rounds of an archive: while one is folded, the next ones are fetched and checked."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass

from barnraise.contract.archive import ArchiveIndex
from barnraise.contract.manifest import Manifest
from barnraise.contract.records import Commit
from barnraise.contract.standing import NONE
from barnraise.contract.tip import Position
from barnraise.fold.codec import Decoder
from barnraise.fold.log import Amendment, Link, Step, Unreadable
from barnraise.fold.replay import Difference, Replay, RoundReader
from barnraise.runtime.waits import end_all
from peer.verify.archive_reader import ArchiveReader
from peer.verify.display import VerifyDisplay
from peer.verify.entry_reader import EntryReader
from peer.verify.events import ReplayProgress
from peer.verify.named_states import NamedStates

AHEAD = 3
"""Rounds that are fetched and checked ahead: bounds the contributions in the scratch folder."""
PARALLEL = 8
"""Contributions fetched in parallel."""


@dataclass(frozen=True)
class Replayed:
    """A finished replay."""

    replay: Replay
    training: float | None
    """As in `Proved`."""


@dataclass(frozen=True)
class _Ready:
    """An entry that can be passed: of a close, with the decoded contributions."""

    step: Step | Unreadable
    contributions: tuple[Decoder, ...] = ()


async def replay_rounds(
    archive_reader: ArchiveReader,
    index: ArchiveIndex,
    replay: Replay,
    until: Manifest,
    named: NamedStates,
    display: VerifyDisplay,
    clock: Callable[[], float],
) -> Replayed | Difference:
    """Advance `replay` to the checkpoint `until`. Rounds that it says are void are passed over, unread.

    named: sees each state. clock: seconds. Raises Unreachable, DiskFull, NewerVersion.
    """
    first, began, closed = replay.tip.position, clock(), list[int]()
    end, heights = until.position(NONE), range(first.height, until.height)
    if (difference := await asyncio.to_thread(named.see, replay)) is not None:
        return difference
    reader = EntryReader(archive_reader, index, RoundReader(replay.charter, replay.state.layout))
    async with aclosing(_in_order(archive_reader, reader, heights, end)) as entries:
        async for found in entries:
            if isinstance(found, Difference):
                return found
            passed = await asyncio.to_thread(_passed, replay, found, end, named)
            if isinstance(passed, Difference):
                return passed
            replay = passed
            if isinstance(found.step, Link):
                closed.append(found.step.close.at)
                rounds = until.round - first.round
                display.replayed(ReplayProgress(replay.rounds, rounds, replay.contributions, clock() - began))
    training = (closed[-1] - closed[0]) / 1000 / (len(closed) - 1) if len(closed) > 1 else None
    return Replayed(replay, training)


def _passed(replay: Replay, ready: _Ready, end: Position, named: NamedStates) -> Replay | Difference:
    after = _stepped(replay, ready, end)
    return after if isinstance(after, Difference) else named.see(after) or after


def _stepped(replay: Replay, ready: _Ready, end: Position) -> Replay | Difference:
    match replay.check(ready.step):
        case Link() | Amendment() as step if not end.has_effect(step.entry):
            return replay.skip(step)
        case Link() as link:
            return replay.fold(link, ready.contributions)
        case Amendment() as amendment:
            return replay.amend(amendment)
        case Difference() as difference:
            return difference


async def _in_order(
    archive_reader: ArchiveReader, reader: EntryReader, heights: range, end: Position
) -> AsyncGenerator[_Ready | Difference, None]:
    gate = asyncio.Semaphore(PARALLEL)
    ahead: deque[asyncio.Task[_Ready | Difference]] = deque()
    try:
        for height in heights:
            ahead.append(asyncio.create_task(_prepare(archive_reader, reader, height, gate, end)))
            if len(ahead) > AHEAD:
                yield await ahead.popleft()
        while ahead:
            yield await ahead.popleft()
    finally:
        reader.close()
        await end_all(ahead)


async def _prepare(
    archive_reader: ArchiveReader, reader: EntryReader, height: int, gate: asyncio.Semaphore, end: Position
) -> _Ready | Difference:
    step = await reader.step(height)
    if isinstance(step, Difference):
        return step
    if not isinstance(step, Link) or not end.has_effect(step.entry):
        return _Ready(step)
    fetching = [asyncio.create_task(_fetch(archive_reader, commit, gate)) for commit in step.commits]
    try:
        found = await asyncio.gather(*fetching)
    finally:
        await end_all(fetching)
    lacking = next((each for each in found if isinstance(each, Difference)), None)
    if lacking is not None:
        return lacking
    blobs = [each for each in found if not isinstance(each, Difference)]
    contributions = await asyncio.to_thread(reader.rounds.read, step, blobs)
    return contributions if isinstance(contributions, Difference) else _Ready(step, contributions)


async def _fetch(
    archive_reader: ArchiveReader, commit: Commit, gate: asyncio.Semaphore
) -> memoryview | Difference:
    async with gate:
        return await archive_reader.contribution(commit)
