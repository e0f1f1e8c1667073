"""The bytes of a download that no source is asked for, and the files that one source has to itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from peer.archive.range_picker import Span


@dataclass
class RangeQueue:
    """Files and sources are numbers. What is added later is fetched first."""

    gaps: list[Span] = field(default_factory=list)
    exclusive: dict[int, int | None] = field(default_factory=dict)
    """Files that were wrong when several sources had served them. Each is fetched again from one source,
    which is then known to be at fault if it is wrong again; None until a source begins."""

    def add(self, file: int, spans: Iterable[tuple[int, int]]) -> None:
        """Bytes that have to be fetched."""
        self.gaps += [Span(file, start, end) for start, end in spans]

    def claim(self, span: Span, source: int) -> None:
        """A source is asked for the front of a gap."""
        gap = next(gap for gap in self.gaps if (gap.file, gap.start) == (span.file, span.start))
        place = self.gaps.index(gap)
        self.gaps[place : place + 1] = [Span(gap.file, span.end, gap.end)] if span.end < gap.end else []
        if span.file in self.exclusive:
            self.exclusive[span.file] = source

    def give_back(self, rest: Span, source: int) -> None:
        """A source ended its request early. A file that is another's by now is not given back to all."""
        if rest.size and self.exclusive.get(rest.file, source) == source:
            self.gaps.insert(0, rest)

    def refetch(self, file: int, size: int) -> None:
        """A whole file has to be fetched again."""
        self.gaps = [gap for gap in self.gaps if gap.file != file]
        self.gaps.insert(0, Span(file, 0, size))

    def make_exclusive(self, file: int) -> None:
        """A file is fetched from one source only, the next that asks."""
        self.exclusive[file] = None

    def release(self, source: int) -> list[int]:
        """A source is dropped. Returns the files that it had to itself, which the next source starts
        again."""
        files = [file for file, owner in self.exclusive.items() if owner == source]
        for file in files:
            self.exclusive[file] = None
        return files

    def complete(self, file: int) -> None:
        """A file is whole."""
        self.exclusive.pop(file, None)
