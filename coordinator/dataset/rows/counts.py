"""Turns rows into records, and counts what happens to each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from coordinator.dataset.records import Chat, Record
from coordinator.dataset.rows.row import AnyRow, OtherSplitRow, Unusable
from coordinator.dataset.rows.shapes import LeftOut, Recognized, Recognizer
from coordinator.reasons.dataset import BadRow, DatasetReport

SHOWN = 5
"""Bad rows that a report shows."""


@dataclass
class RowCounts:
    """Counts over the rows of a dataset, or of a part of it.

    The counts of parts, merged in the order of the rows, are those of the whole, however it was divided.
    """

    rows: int = 0
    records: int = 0
    bad: int = 0
    first_bad: list[BadRow] = field(default_factory=list)
    blank: int = 0
    disliked: int = 0
    untrained: int = 0
    lacking: int = 0
    other_splits: Counter[str] = field(default_factory=Counter)
    shapes: Counter[str] = field(default_factory=Counter)
    unused: Counter[str] = field(default_factory=Counter)

    def add_bad(self, row: BadRow) -> None:
        """Count a row that cannot be trained on."""
        self.bad += 1
        if len(self.first_bad) < SHOWN:
            self.first_bad.append(row)

    def add(self, found: Recognized) -> None:
        """Count a row that could be read, by what it holds."""
        if found.record is LeftOut.BLANK:
            self.blank += 1
            return
        if found.record is LeftOut.DISLIKED:
            self.disliked += 1
            return
        self.records += 1
        self.lacking += found.lacks_named
        self.shapes[found.shape] += 1
        for name in found.ignored if len(found.ignored) < 2 else set(found.ignored):
            self.unused[name] += 1
        if isinstance(found.record, Chat):
            for turn in found.record.messages:
                if not turn.trained and turn.role == "assistant":
                    self.untrained += 1

    def merge(self, later: RowCounts) -> None:
        """Add the counts of the rows that follow."""
        self.rows += later.rows
        self.records += later.records
        self.bad += later.bad
        self.first_bad = [*self.first_bad, *later.first_bad][:SHOWN]
        self.blank += later.blank
        self.disliked += later.disliked
        self.untrained += later.untrained
        self.lacking += later.lacking
        self.other_splits.update(later.other_splits)
        self.shapes.update(later.shapes)
        self.unused.update(later.unused)

    def report(self) -> DatasetReport:
        """The counts, frozen."""
        return DatasetReport(
            rows=self.rows,
            records=self.records,
            bad_rows=self.bad,
            first_bad=tuple(self.first_bad),
            blank=self.blank,
            disliked=self.disliked,
            untrained=self.untrained,
            lacking=self.lacking,
            other_splits=ranked(self.other_splits),
            shapes=ranked(self.shapes),
            unused=ranked(self.unused),
        )


def records(rows: Iterable[AnyRow], text_field: str | None, counts: RowCounts) -> Iterator[Record]:
    """The records that `rows` hold, in their order; bad and blank rows are counted and left out.

    text_field: the field of plain text as the maintainer set it, or None for the default.
    """
    recognizer = Recognizer(text_field)
    for row in rows:
        counts.rows += 1
        if isinstance(row, BadRow):
            counts.add_bad(row)
            continue
        if isinstance(row, OtherSplitRow):
            counts.other_splits[row.split] += 1
            continue
        try:
            found = recognizer.recognize(row.value, row.where)
        except Unusable as fault:
            counts.add_bad(BadRow(row.where, fault.problem, fault.fix))
            continue
        counts.add(found)
        if not isinstance(found.record, LeftOut):
            yield found.record


def ranked(counter: Counter[str]) -> tuple[tuple[str, int], ...]:
    """The entries of a counter, the most frequent first."""
    return tuple(sorted(counter.items(), key=lambda item: (-item[1], item[0])))
