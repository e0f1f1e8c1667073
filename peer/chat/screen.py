"""The screen of `peer chat`: answers as they are generated, two in columns if the terminal is wide."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.live import Live
from rich.table import Table
from rich.text import Text

from barnraise.core.plain_text import one_line, spelled
from barnraise.runtime.plain_console import PlainConsole

WIDE = 100
"""Columns of text from which two answers are readable next to each other."""

Write = Callable[[str], None]


def screen_for(console: PlainConsole, sides: int) -> ColumnScreen | SequentialScreen:
    wide = console.is_terminal and console.width >= WIDE
    return ColumnScreen(console) if sides > 1 and wide else SequentialScreen(console)


@dataclass(frozen=True)
class SequentialScreen:
    """Answers one after the other, with titles if there are two."""

    console: PlainConsole

    @contextmanager
    def answering(self, titles: tuple[str, ...]) -> Iterator[tuple[Write, ...]]:
        """One writer per answer to a prompt; use them one after the other."""
        started: set[str] = set()

        def writer(title: str) -> Write:
            def write(text: str) -> None:
                if len(titles) > 1 and title not in started:
                    self._write(("\n\n" if started else "") + f"{one_line(title)}:\n")
                started.add(title)
                self._write(spelled(text))

            return write

        try:
            yield tuple(writer(title) for title in titles)
        finally:
            self._write("\n")

    def _write(self, text: str) -> None:
        file = self.console.file
        file.write(text)
        file.flush()


@dataclass(frozen=True)
class ColumnScreen:
    """Answers next to each other, in columns."""

    console: PlainConsole

    @contextmanager
    def answering(self, titles: tuple[str, ...]) -> Iterator[tuple[Write, ...]]:
        """One writer per answer to a prompt."""
        texts = [Text() for _ in titles]
        table = _table(titles, texts)
        # Text beyond the screen is cropped while it grows; the complete table is printed at the end.
        with Live(table, console=self.console, transient=True, vertical_overflow="crop") as live:

            def writer(text: Text) -> Write:
                def write(piece: str) -> None:
                    text.append(spelled(piece))
                    live.refresh()

                return write

            try:
                yield tuple(writer(text) for text in texts)
            finally:
                live.stop()
                self.console.print(table)


def _table(titles: tuple[str, ...], texts: list[Text]) -> Table:
    table = Table(box=None, expand=True, padding=(0, 2, 0, 0))
    for title in titles:
        table.add_column(Text(one_line(title)), ratio=1, overflow="fold")
    table.add_row(*texts)
    return table
