"""The display of `peer verify`: on a terminal a bar, lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from rich.progress import BarColumn, MofNCompleteColumn, Progress

from barnraise.runtime.console import say_line
from barnraise.runtime.fetch_display import FetchBars, FetchLines
from barnraise.runtime.plain_console import PlainConsole, plain_column
from peer.archive.events import DownloadListener
from peer.verify.events import ReplayProgress, VerifyEvent

LINES = 20
"""Lines about replayed rounds that are printed at most without a terminal."""

Render = Callable[[VerifyEvent | ReplayProgress], str]
"""`peer.messages.verify.verify_message`."""


class VerifyDisplay(DownloadListener[VerifyEvent], Protocol):
    """Shows a verification, and the download of the base model, while its context is entered."""

    def __enter__(self) -> VerifyDisplay: ...

    def __exit__(self, *_: object) -> None: ...

    def replayed(self, progress: ReplayProgress) -> None: ...


class VerifyLines(FetchLines):
    """A line per event on stderr, and at most `LINES` about replayed rounds."""

    def __init__(self, render: Render) -> None:
        super().__init__(_to_stderr)
        self._render = render

    def __enter__(self) -> VerifyLines:
        return self

    def report(self, event: VerifyEvent) -> None:
        self.say(self._render(event))

    def replayed(self, progress: ReplayProgress) -> None:
        every = max(1, -(-progress.total // LINES))
        if progress.rounds == progress.total or progress.rounds % every == 0:
            self.say(self._render(progress))


class VerifyBar(FetchBars):
    """A progress bar of the replayed rounds after those of files, with the events above them.

    rate: renders the speed of the replay.
    """

    def __init__(self, console: PlainConsole, render: Render, rate: Callable[[ReplayProgress], str]) -> None:
        super().__init__(console)
        self._render, self._rate = render, rate
        self._replay = Progress(
            plain_column("replaying"), BarColumn(), MofNCompleteColumn(), plain_column(),
            console=console,
        )  # fmt: skip
        self._rounds = self._replay.add_task("", total=None, visible=False)
        self._replays = False

    def __enter__(self) -> VerifyBar:
        super().__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        (self._replay if self._replays else self._progress).stop()

    def report(self, event: VerifyEvent) -> None:
        self.say(self._render(event))

    def replayed(self, progress: ReplayProgress) -> None:
        if not self._replays:  # a console shows one live display at a time
            self._progress.stop()
            self._replay.start()
            self._replays = True
        self._replay.update(
            self._rounds,
            completed=progress.rounds,
            total=progress.total,
            description=self._rate(progress),
            visible=True,
        )


def _to_stderr(text: str) -> None:
    say_line(text, err=True)


def verify_display(
    console: PlainConsole, render: Render, rate: Callable[[ReplayProgress], str]
) -> VerifyDisplay:
    return VerifyBar(console, render, rate) if console.is_terminal else VerifyLines(render)
