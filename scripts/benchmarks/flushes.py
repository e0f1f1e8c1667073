"""`scripts/bench flushes`: what it costs that a power cut loses nothing.

The coordinator's run store goes through rounds with small blobs, in which `fsync` and the commits of SQLite
are counted and timed: their number in a round depends on the contributions and not on their size. A large
file is then written with and without its flush: the flush waits for the disk, which would write it later.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

from barnraise.core.identity import Identity
from barnraise.runtime.files import replacing
from coordinator.store.journal import Journal
from tests.support.coordinators import fold_round, opened_store, show, train_round

FILE_BYTES = 500_000_000
CHUNK = bytes(1 << 20)


@dataclass
class Timed:
    """The durations of one kind of call, in seconds."""

    seconds: list[float] = field(default_factory=list)

    def wrap(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """`call`, timed."""

        def timed(*arguments: Any) -> Any:
            start = time.perf_counter()
            try:
                return call(*arguments)
            finally:
                self.seconds.append(time.perf_counter() - start)

        return timed


@contextmanager
def timing() -> Iterator[tuple[Timed, Timed]]:
    """Flushes of files and folders, and commits of the journal."""
    flushes, commits = Timed(), Timed()
    with (
        patch.object(os, "fsync", flushes.wrap(os.fsync)),
        patch.object(Journal, "append", _method(commits, Journal.append)),
    ):
        yield flushes, commits


def _method(timed: Timed, method: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: Journal, *arguments: Any) -> Any:
        return timed.wrap(method)(self, *arguments)

    return call


def measure_flushes(contributions: list[int], rounds: int, folder: Path) -> Iterator[list[str]]:
    """Rows of a table: a round of the coordinator, without and with a checkpoint."""
    for count in contributions:
        owners = [Identity.from_seed(number.to_bytes(32, "big")) for number in range(1, count + 1)]
        for name, play in (("round", fold_round), ("round and checkpoint", train_round)):
            with tempfile.TemporaryDirectory(dir=folder) as work, opened_store(Path(work)) as store:
                play(store, *owners)
                show(store)
                with timing() as (flushes, commits):
                    for _ in range(rounds):
                        play(store, *owners)
                        show(store)
            both = sum(flushes.seconds) + sum(commits.seconds)
            yield [
                name, str(count),
                f"{len(flushes.seconds) / rounds:.0f}", f"{len(commits.seconds) / rounds:.0f}",
                f"{1000 * median(flushes.seconds):.1f}", f"{1000 * median(commits.seconds):.1f}",
                f"{both / rounds:.2f}",
            ]  # fmt: skip


def measure_file(repeats: int, folder: Path) -> tuple[float, float]:
    """Seconds to write a file of 500 MB with its flush, and without. Medians."""

    def write() -> float:
        with tempfile.TemporaryDirectory(dir=folder) as work:
            start = time.perf_counter()
            with replacing(Path(work) / "file") as file:
                for _ in range(FILE_BYTES // len(CHUNK)):
                    file.write(CHUNK)
            return time.perf_counter() - start

    flushed = median(write() for _ in range(repeats))
    with patch.object(os, "fsync", lambda handle: None):
        return flushed, median(write() for _ in range(repeats))
