"""The display of `peer download`: on a terminal a bar per file and one for all, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from barnraise.runtime.console import say_line
from barnraise.runtime.fetch_display import FetchBars, FetchLines
from barnraise.runtime.plain_console import PlainConsole
from peer.archive.events import DownloadListener, Event

E = TypeVar("E")


class DownloadDisplay(DownloadListener[Event], Protocol[Event]):
    """Shows a download while its context is entered."""

    def __enter__(self) -> DownloadDisplay[Event]: ...

    def __exit__(self, *_: object) -> None: ...


def _to_stderr(text: str) -> None:
    say_line(text, err=True)


class DownloadLines(FetchLines, Generic[E]):
    """A line per event and per complete file. render: renders an event."""

    def __init__(
        self,
        render: Callable[[E], str],
        write: Callable[[str], None] = _to_stderr,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(write, clock)
        self._render = render

    def __enter__(self) -> DownloadLines[E]:
        return self

    def report(self, event: E) -> None:
        self.say(self._render(event))


class DownloadBars(FetchBars, Generic[E]):
    """Progress bars, with the events above them. render: renders an event."""

    def __init__(self, console: PlainConsole, render: Callable[[E], str]) -> None:
        super().__init__(console)
        self._render = render

    def __enter__(self) -> DownloadBars[E]:
        super().__enter__()
        return self

    def report(self, event: E) -> None:
        self.say(self._render(event))


def download_display(
    console: PlainConsole, render: Callable[[E], str], write: Callable[[str], None] = _to_stderr
) -> DownloadDisplay[E]:
    """write: shows a line where `console` is no terminal."""
    return DownloadBars(console, render) if console.is_terminal else DownloadLines(render, write)
