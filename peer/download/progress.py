"""What `peer download` shows: a bar for each file and one for all on a terminal, plain lines elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

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
from peer.archive.checkpoint_download import DownloadListener


class DownloadDisplay(DownloadListener, Protocol):
    def __enter__(self) -> DownloadDisplay: ...

    def __exit__(self, *_: object) -> None: ...


@dataclass
class DownloadLines:
    """A line for each file that is whole."""

    _sizes: dict[str, int] = field(default_factory=dict)

    def __enter__(self) -> DownloadLines:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def file(self, name: str, length: int, got: int) -> None:
        self._sizes[name] = length
        if got:
            self.say(f"{name}: going on after {format_bytes(got)} of {format_bytes(length)}")

    def got(self, name: str, count: int) -> None:
        return

    def again(self, name: str) -> None:
        self.say(f"{name}: false bytes, fetched anew")

    def done(self, name: str) -> None:
        self.say(f"{name}: {format_bytes(self._sizes[name])}")

    def say(self, text: str) -> None:
        click.echo(text, err=True)


class DownloadBars:
    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
            TimeRemainingColumn(), console=console,
        )  # fmt: skip
        self._all = self._progress.add_task("all files", total=0)
        self._files: dict[str, TaskID] = {}

    def __enter__(self) -> DownloadBars:
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
        self.say(f"{name}: false bytes, fetched anew")

    def done(self, name: str) -> None:
        self._progress.update(self._files[name], visible=False)

    def say(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False)

    def _task(self, number: TaskID) -> Task:
        return next(task for task in self._progress.tasks if task.id == number)


def download_display(console: Console) -> DownloadDisplay:
    return DownloadBars(console) if console.is_terminal else DownloadLines()
