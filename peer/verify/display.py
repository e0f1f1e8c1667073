"""The display of `peer verify`: on a terminal a bar, lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from peer.verify.events import ReplayProgress, VerifyEvent

LINES = 20
"""Lines about replayed rounds that are printed at most without a terminal."""

Render = Callable[[VerifyEvent | ReplayProgress], str]
"""`peer.messages.verify.verify_message`."""


class VerifyDisplay(Protocol):
    """Shows a verification while its context is entered."""

    def __enter__(self) -> VerifyDisplay: ...

    def __exit__(self, *_: object) -> None: ...

    def report(self, event: VerifyEvent) -> None: ...

    def say(self, text: str) -> None:
        """Show what the search for the base model reports."""
        ...

    def replayed(self, progress: ReplayProgress) -> None: ...


class VerifyLines:
    """A line per event on stderr, and at most `LINES` about replayed rounds."""

    def __init__(self, render: Render) -> None:
        self._render = render

    def __enter__(self) -> VerifyLines:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def report(self, event: VerifyEvent) -> None:
        self.say(self._render(event))

    def say(self, text: str) -> None:
        click.echo(text, err=True)

    def replayed(self, progress: ReplayProgress) -> None:
        if progress.rounds == progress.total or progress.rounds % -(-progress.total // LINES) == 0:
            self.say(self._render(progress))


class VerifyBar:
    """A progress bar of the replayed rounds, with the events above it. rate: renders its speed."""

    def __init__(self, console: Console, render: Render, rate: Callable[[ReplayProgress], str]) -> None:
        self._render, self._rate = render, rate
        self._progress = Progress(
            TextColumn("replaying"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"),
            console=console,
        )  # fmt: skip
        self._task = self._progress.add_task("", total=None, visible=False)

    def __enter__(self) -> VerifyBar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def report(self, event: VerifyEvent) -> None:
        self.say(self._render(event))

    def say(self, text: str) -> None:
        console = self._progress.console
        console.print(text, highlight=False, markup=False)

    def replayed(self, progress: ReplayProgress) -> None:
        self._progress.update(
            self._task,
            completed=progress.rounds,
            total=progress.total,
            description=self._rate(progress),
            visible=True,
        )


def verify_display(console: Console, render: Render, rate: Callable[[ReplayProgress], str]) -> VerifyDisplay:
    return VerifyBar(console, render, rate) if console.is_terminal else VerifyLines(render)
