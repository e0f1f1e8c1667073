"""Checkpoints become public: evaluated, told about, named, and written in other forms where that is asked."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from barnraise.edge.files import scratch_folder
from barnraise.ids import Millis
from barnraise.manifest import HeldOut
from coordinator.about import about, card_facts
from coordinator.archive import Archive
from coordinator.book import Book
from coordinator.checkpoints import lay_out
from coordinator.evaluation import Evaluated, NotEvaluated
from coordinator.exports import Exporter

log = logging.getLogger("coordinator.settling")

Evaluate = Callable[[Path], Awaitable["Evaluated | NotEvaluated"]]
"""Evaluates a folder with a checkpoint's files."""


@dataclass
class Settler:
    """One checkpoint at a time, beside the rounds: nothing waits for it."""

    book: Book
    archive: Archive
    evaluate: Evaluate
    exporter: Exporter
    clock: Callable[[], Millis]
    seeds: Callable[[], Sequence[str]] = tuple
    """Other servers that have some of the archive."""
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by whoever changes which files the store keeps, or links them."""
    _new: asyncio.Event = field(default_factory=asyncio.Event)
    _told: str = ""

    async def run(self) -> None:
        """Settle what is there, and then each checkpoint that `look` tells of. Ends by being cancelled.

        Raises DiskFull.
        """
        await self.exporter.once()
        await self.publish()
        while True:
            self._new.clear()
            if rounds := self.book.unsettled():
                await self._settle(rounds[-1], older=rounds[:-1])
            else:
                await self._new.wait()

    def look(self) -> None:
        """There is a new checkpoint."""
        self._new.set()

    async def publish(self) -> None:
        """Make the archive say what the book says."""
        async with self.writing:
            content = self.book.content(self.seeds())
            await asyncio.to_thread(self.archive.publish, content)

    async def _settle(self, round: int, older: Sequence[int]) -> None:
        with scratch_folder(self.book.folder) as work:
            folder = work / "checkpoint"
            async with self.writing:
                await asyncio.to_thread(lay_out, self.book.checkpoints[round], self.book.blobs, folder)
            match await self.evaluate(folder):
                case Evaluated(found):
                    log.info("checkpoint of round %d: held-out loss %.4f", round, found.loss)
                    held_out: HeldOut | None = found
                case NotEvaluated(reason):
                    log.info("checkpoint of round %d is not evaluated: %s", round, reason)
                    held_out = None
            async with self.writing:
                for before in older:
                    self._note(before, None)
                self._note(round, held_out)
            await self.publish()
            standing = self.book.standing()
            if standing is not None and standing.main == round:
                await self.exporter.export(folder, card_facts(self.book, round, held_out))
                await self.publish()

    def _note(self, round: int, held_out: HeldOut | None) -> None:
        if round in self.book.checkpoints:  # it may have been dropped since: newer ones came
            self.book.settle(round, held_out, about(self.book, round, held_out), self.clock())
        standing = self.book.standing()
        if standing is not None and standing.reason != self._told:
            log.info("main is %s", standing.reason)
            self._told = standing.reason
