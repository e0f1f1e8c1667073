"""Replay the rounds of an archive: while one is folded, the next ones are fetched and checked."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from barnraise.contract.records import Commit
from barnraise.core.ids import Round
from barnraise.fold.fold import Contribution
from barnraise.fold.log import Link
from barnraise.fold.replay import Difference, Replay, RoundReader
from peer.verify.archive_reader import ArchiveReader
from peer.verify.display import VerifyDisplay
from peer.verify.events import ReplayProgress

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
    """A round that can be folded."""

    link: Link
    contributions: tuple[Contribution, ...]

    @property
    def closed_at(self) -> int:
        """Milliseconds."""
        close = self.link.close
        return close.at


async def replay_rounds(
    archive_reader: ArchiveReader,
    replay: Replay,
    until: int,
    display: VerifyDisplay,
    clock: Callable[[], float],
) -> Replayed | Difference:
    """Advance `replay` to the state of round `until`. clock: seconds. Raises Unreachable, DiskFull."""
    first, began, closed = replay.tip.round, clock(), list[int]()
    reader = RoundReader(replay.charter, replay.state.layout)
    async with aclosing(_in_order(archive_reader, reader, range(first, until))) as rounds:
        async for found in rounds:
            if isinstance(found, Difference):
                return found
            folded = await asyncio.to_thread(replay.fold, found.link, found.contributions)
            if isinstance(folded, Difference):
                return folded
            replay = folded
            closed.append(found.closed_at)
            display.replayed(
                ReplayProgress(replay.rounds, until - first, replay.contributions, clock() - began)
            )
    training = (closed[-1] - closed[0]) / 1000 / (len(closed) - 1) if len(closed) > 1 else None
    return Replayed(replay, training)


async def _in_order(
    archive_reader: ArchiveReader, reader: RoundReader, rounds: range
) -> AsyncGenerator[_Ready | Difference, None]:
    gate = asyncio.Semaphore(PARALLEL)
    ahead: deque[asyncio.Task[_Ready | Difference]] = deque()
    try:
        for round in rounds:
            ahead.append(asyncio.create_task(_prepare(archive_reader, reader, Round(round), gate)))
            if len(ahead) > AHEAD:
                yield await ahead.popleft()
        while ahead:
            yield await ahead.popleft()
    finally:
        await _cancel(ahead)


async def _prepare(
    archive_reader: ArchiveReader, reader: RoundReader, round: Round, gate: asyncio.Semaphore
) -> _Ready | Difference:
    wire = await archive_reader.close(round)
    link = wire if isinstance(wire, Difference) else await asyncio.to_thread(reader.open, round, wire)
    if isinstance(link, Difference):
        return link
    fetching = [asyncio.create_task(_fetch(archive_reader, commit, gate)) for commit in link.commits]
    try:
        found = await asyncio.gather(*fetching)
    finally:
        await _cancel(fetching)
    lacking = next((each for each in found if isinstance(each, Difference)), None)
    if lacking is not None:
        return lacking
    blobs = [each for each in found if not isinstance(each, Difference)]
    contributions = await asyncio.to_thread(reader.read, link, blobs)
    return contributions if isinstance(contributions, Difference) else _Ready(link, contributions)


async def _fetch(
    archive_reader: ArchiveReader, commit: Commit, gate: asyncio.Semaphore
) -> memoryview | Difference:
    async with gate:
        return await archive_reader.contribution(commit)


async def _cancel(tasks: Sequence[asyncio.Task[object]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
