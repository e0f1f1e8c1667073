"""Shows files that are being fetched: on a terminal a bar per file and one for all, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    Task,
    TaskID,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from barnraise.core.plain_text import one_line
from barnraise.core.units import format_bytes
from barnraise.runtime.fetch_listener import FetchListener
from barnraise.runtime.plain_console import PlainConsole, plain_column

_BAR = 20
"""Characters of the bar in a line."""


@dataclass(frozen=True)
class DisplayTiming:
    """Intervals in seconds."""

    line: float = 5.0
    """Between two lines about the same files, where there is no terminal: a screen in two minutes."""


DISPLAY_TIMING = DisplayTiming()


class FetchDisplay(FetchListener, Protocol):
    """Shows what is fetched while its context is entered."""

    def __enter__(self) -> FetchDisplay: ...

    def __exit__(self, *_: object) -> None: ...


@dataclass
class _Progress:
    length: int
    got: int


class FetchLines:
    """A line per complete file, and one every few seconds with size, bar and rate.

    write: shows a line. clock: seconds.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        timing: DisplayTiming = DISPLAY_TIMING,
    ) -> None:
        self._write, self._clock, self._timing = write, clock, timing
        self._files: dict[str, _Progress] = {}
        self._line_at = clock()
        self._since_line = 0

    def __enter__(self) -> FetchLines:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def file(self, name: str, length: int, got: int) -> None:
        if all(file.got == file.length for file in self._files.values()):
            self._line_at, self._since_line = self._clock(), 0
        self._files[name] = _Progress(length, got)
        if got:
            self.say(f"{name}: resuming after {format_bytes(got)} of {format_bytes(length)}")

    def got(self, name: str, count: int) -> None:
        self._files[name].got += count
        self._since_line += count
        now = self._clock()
        if now - self._line_at >= self._timing.line:
            self.say(self._progress_line(now - self._line_at))
            self._line_at, self._since_line = now, 0

    def again(self, name: str) -> None:
        self._files[name].got = 0
        self.say(_refetched(name))

    def done(self, name: str) -> None:
        file = self._files[name]
        file.got = file.length
        self.say(f"{name}: {format_bytes(file.length)}")

    def say(self, text: str) -> None:
        self._write(text)

    def _progress_line(self, seconds: float) -> str:
        got = sum(file.got for file in self._files.values())
        length = sum(file.length for file in self._files.values())
        share = got / length if length else 1.0
        bar = ("#" * int(share * _BAR)).ljust(_BAR, ".")
        rate = self._since_line / seconds
        left = f", {(length - got) / rate:.0f} s left" if rate else ""
        return f"[{bar}] {share:.0%} of {format_bytes(length)}, {format_bytes(int(rate))}/s{left}"


class FetchBars:
    """Progress bars, with lines above them."""

    def __init__(self, console: PlainConsole) -> None:
        self._progress = Progress(
            plain_column(), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
            TimeRemainingColumn(), console=console,
        )  # fmt: skip
        self._all = self._progress.add_task("all files", total=0, visible=False)
        self._files: dict[str, TaskID] = {}

    def __enter__(self) -> FetchBars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def file(self, name: str, length: int, got: int) -> None:
        self._files[name] = self._progress.add_task(
            one_line(name), total=length, completed=got, visible=got > 0
        )
        whole = self._task(self._all)
        self._progress.update(
            self._all, total=(whole.total or 0) + length, completed=whole.completed + got, visible=True
        )

    def got(self, name: str, count: int) -> None:
        self._progress.update(self._files[name], advance=count, visible=True)
        self._progress.update(self._all, advance=count)

    def again(self, name: str) -> None:
        self._progress.update(self._all, advance=-self._task(self._files[name]).completed)
        self._progress.update(self._files[name], completed=0)
        self.say(_refetched(name))

    def done(self, name: str) -> None:
        self._progress.update(self._files[name], visible=False)

    def say(self, text: str) -> None:
        self._progress.console.print(one_line(text))

    def _task(self, number: TaskID) -> Task:
        return next(task for task in self._progress.tasks if task.id == number)


def fetch_display(write: Callable[[str], None], console: PlainConsole | None = None) -> FetchDisplay:
    """Bars if standard error is a terminal, and lines that `write` shows elsewhere."""
    console = console or PlainConsole(stderr=True)
    return FetchBars(console) if console.is_terminal else FetchLines(write)


def _refetched(name: str) -> str:
    return f"{name}: the bytes do not match its hash; fetching it again"
