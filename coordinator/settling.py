"""Checkpoints become public: evaluated, told about, named, and written in other forms where that is asked."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from typing_extensions import assert_never

from barnraise.archive import folder_of
from barnraise.edge.files import scratch_folder
from barnraise.ids import Millis
from barnraise.manifest import HeldOut
from coordinator import evaluation
from coordinator.about import about, card_facts
from coordinator.archive import ARCHIVE, Archive
from coordinator.book import Book
from coordinator.charter import HELD_OUT
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

        Raises DiskFull, StateError.
        """
        await self.publish()
        await self.exporter.once()
        await self.publish()
        await self._export_main()
        while True:
            self._new.clear()
            if self.book.unsettled():
                await self.settle()
            else:
                await self._new.wait()

    def look(self) -> None:
        """There is a new checkpoint."""
        self._new.set()

    async def publish(self) -> None:
        """Make the archive say what the book says. Raises DiskFull, StateError."""
        async with self.writing:
            content = self.book.content(self.seeds())
            await asyncio.to_thread(self.archive.publish, content)

    async def settle(self) -> None:
        """Evaluate the newest checkpoint; show it and all before. Raises DiskFull, StateError."""
        with scratch_folder(self.book.folder) as work:
            folder = work / "checkpoint"
            async with self.writing:
                round = self.book.unsettled()[-1]
                self.book.settling = round
                await asyncio.to_thread(lay_out, self.book.checkpoints[round], self.book.blobs, folder)
            outcome = await self.evaluate(folder)
        async with self.writing:
            for older in [before for before in self.book.unsettled() if before < round]:
                self._note(older, NotEvaluated(f"that of round {round} came before its turn"))
            self._note(round, outcome)
            self.book.settling = None
        await self.publish()
        await self._export_main()

    def _note(self, round: int, outcome: Evaluated | NotEvaluated) -> None:
        held_out: HeldOut | None
        match outcome:
            case Evaluated(held_out):
                log.info("checkpoint of round %d: held-out loss %.4f", round, held_out.loss)
            case NotEvaluated(reason):
                held_out = None
                log.info("checkpoint of round %d is not evaluated: %s", round, reason)
            case _:
                assert_never(outcome)
        self.book.settle(round, held_out, about(self.book, round, held_out), self.clock())
        standing = self.book.standing()
        if standing is not None and standing.reason != self._told:
            log.info("main: %s", standing.reason)
            self._told = standing.reason

    async def _export_main(self) -> None:
        """The promoted checkpoint in the other forms that are asked for, where they are not there yet."""
        if (standing := self.book.standing()) is None:
            return
        round = standing.main
        facts = card_facts(self.book, round, self.book.checkpoints[round].value.held_out)
        if await self.exporter.export(self.archive.folder / folder_of("trained", round), facts):
            await self.publish()


def settler_of(book: Book, clock: Callable[[], Millis]) -> Settler:
    """What makes the checkpoints of `book` public, in its folder."""
    charter, archive = book.charter, book.folder / ARCHIVE
    return Settler(
        book=book,
        archive=Archive(charter, archive, book.blobs),
        evaluate=functools.partial(
            evaluation.evaluate,
            base=book.base,
            held_out=book.folder / HELD_OUT,
            tokens=charter.spec.checkpoint.held_out_tokens,
        ),
        exporter=Exporter(charter, book.base, book.folder, archive, book.blobs.folder, book.authority),
        clock=clock,
    )
