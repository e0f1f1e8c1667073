"""The display of `peer download`: on a terminal a bar per file and one for all, lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from barnraise.core.units import format_bytes
from peer.archive.events import DownloadListener, Event

E = TypeVar("E")


class DownloadDisplay(DownloadListener[Event], Protocol[Event]):
    """Shows a download while its context is entered."""

    def __enter__(self) -> DownloadDisplay[Event]: ...

    def __exit__(self, *_: object) -> None: ...


class DownloadLines(Generic[E]):
    """A line per event and per complete file, on stderr. render: renders an event."""

    def __init__(self, render: Callable[[E], str]) -> None:
        self._render = render
        self._sizes: dict[str, int] = {}

    def __enter__(self) -> DownloadLines[E]:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def file(self, name: str, length: int, got: int) -> None:
        self._sizes[name] = length
        if got:
            self.say(f"{name}: resuming after {format_bytes(got)} of {format_bytes(length)}")

    def got(self, name: str, count: int) -> None:
        return

    def again(self, name: str) -> None:
        self.say(_refetched(name))

    def done(self, name: str) -> None:
        self.say(f"{name}: {format_bytes(self._sizes[name])}")

    def report(self, event: E) -> None:
        self.say(self._render(event))

    def say(self, text: str) -> None:
        click.echo(text, err=True)


class DownloadBars(Generic[E]):
    """Progress bars, with the events above them. render: renders an event."""

    def __init__(self, console: Console, render: Callable[[E], str]) -> None:
        self._render = render
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
            TimeRemainingColumn(), console=console,
        )  # fmt: skip
        self._all = self._progress.add_task("all files", total=0)
        self._files: dict[str, TaskID] = {}

    def __enter__(self) -> DownloadBars[E]:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def file(self, name: str, length: int, got: int) -> None:
        self._files[name] = self._progress.add_task(name, total=length, completed=got, visible=got > 0)
        whole = self._task(self._all)
        self._progress.update(self._all, total=(whole.total or 0) + length, completed=whole.completed + got)

    def got(self, name: str, count: int) -> None:
        self._progress.update(self._files[name], advance=count, visible=True)
        self._progress.update(self._all, advance=count)

    def again(self, name: str) -> None:
        self._progress.update(self._all, advance=-self._task(self._files[name]).completed)
        self._progress.update(self._files[name], completed=0)
        self.say(_refetched(name))

    def done(self, name: str) -> None:
        self._progress.update(self._files[name], visible=False)

    def report(self, event: E) -> None:
        self.say(self._render(event))

    def say(self, text: str) -> None:
        console = self._progress.console
        console.print(text, markup=False, highlight=False)

    def _task(self, number: TaskID) -> Task:
        return next(task for task in self._progress.tasks if task.id == number)


def download_display(console: Console, render: Callable[[E], str]) -> DownloadDisplay[E]:
    return DownloadBars(console, render) if console.is_terminal else DownloadLines(render)


def _refetched(name: str) -> str:
    return f"{name}: the bytes do not match its hash; fetching it again"
