"""How `peer chat` shows answers: as they come, and two in columns where the terminal is wide."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from peer.chat.terminal_escape import escape_text

WIDE = 100
"""Characters a line from which two columns can be read."""

Write = Callable[[str], None]


def screen_for(console: Console, sides: int) -> ColumnScreen | SequentialScreen:
    wide = console.is_terminal and console.width >= WIDE
    return ColumnScreen(console) if sides > 1 and wide else SequentialScreen(console)


@dataclass(frozen=True)
class SequentialScreen:
    """One after the other, with titles where there are two."""

    console: Console

    @contextmanager
    def answering(self, titles: tuple[str, ...]) -> Iterator[tuple[Write, ...]]:
        """Where each of the answers to one question goes: one after the other."""
        begun: set[str] = set()

        def teller(title: str) -> Write:
            def tell(text: str) -> None:
                if len(titles) > 1 and title not in begun:
                    self._write(("\n\n" if begun else "") + f"{escape_text(title)}:\n")
                begun.add(title)
                self._write(escape_text(text))

            return tell

        try:
            yield tuple(teller(title) for title in titles)
        finally:
            self._write("\n")

    def _write(self, text: str) -> None:
        self.console.file.write(text)
        self.console.file.flush()


@dataclass(frozen=True)
class ColumnScreen:
    """Side by side."""

    console: Console

    @contextmanager
    def answering(self, titles: tuple[str, ...]) -> Iterator[tuple[Write, ...]]:
        """Where each of the answers to one question goes."""
        texts = [Text() for _ in titles]
        table = _table(titles, texts)
        # What grows beyond the screen is cut off while it grows; in the end all of it is printed.
        with Live(table, console=self.console, transient=True, vertical_overflow="crop") as live:

            def teller(text: Text) -> Write:
                def tell(piece: str) -> None:
                    text.append(escape_text(piece))
                    live.refresh()

                return tell

            try:
                yield tuple(teller(text) for text in texts)
            finally:
                live.stop()
                self.console.print(table)


def _table(titles: tuple[str, ...], texts: list[Text]) -> Table:
    table = Table(box=None, expand=True, padding=(0, 2, 0, 0))
    for title in titles:
        table.add_column(Text(escape_text(title)), ratio=1, overflow="fold")
    table.add_row(*texts)
    return table
