"""A rich console that shows text as text: without markup, emoji codes, highlighting or escape sequences."""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import TextColumn
from rich.segment import Segment

from barnraise.core.plain_text import spelled


class PlainConsole(Console):
    """Every piece of text that it renders is escaped, on every display that it is part of.

    Callers pass untrusted names through `one_line` where a line end would matter. Accents and joined
    emoji stay: a model's answers have them.
    """

    def __init__(
        self,
        *,
        stderr: bool = False,
        file: IO[str] | None = None,
        width: int | None = None,
        force_terminal: bool | None = None,
    ) -> None:
        super().__init__(
            stderr=stderr,
            file=file,
            width=width,
            force_terminal=force_terminal,
            markup=False,
            emoji=False,
            highlight=False,
        )

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of `renderable`, in which the text of others has no effect."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(spelled(segment.text), segment.style)


def plain_column(text_format: str = "{task.description}") -> TextColumn:
    """A column of a progress bar whose text is no markup."""
    return TextColumn(text_format, markup=False)
