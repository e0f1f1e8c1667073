"""Counts what happens to records when they are rendered."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from coordinator.dataset.rendering.render import TEXT, Rendered
from coordinator.dataset.rows.counts import SHOWN, ranked
from coordinator.dataset.rows.row import BadRow
from coordinator.reasons.dataset import RenderReport


@dataclass
class RenderCounts:
    """Counts over the records of a dataset, or of a part of it.

    The counts of parts, merged in the order of the records, are those of the whole.
    """

    methods: Counter[str] = field(default_factory=Counter)
    ignored: Counter[str] = field(default_factory=Counter)
    trimmed: int = 0
    trimmed_turns: int = 0
    trimmed_tokens: int = 0
    dropped: int = 0
    dropped_tokens: int = 0
    short: int = 0
    bad: int = 0
    first_bad: list[BadRow] = field(default_factory=list)

    @property
    def chats(self) -> int:
        """Chats that are trained on."""
        return sum(count for method, count in self.methods.items() if method != TEXT)

    def add(self, rendered: Rendered) -> None:
        """Count a record that is trained on."""
        self.methods[rendered.method] += 1
        self.ignored.update(rendered.ignored)

    def add_trimmed(self, turns: int, tokens: int) -> None:
        """Count a chat that lost turns and tokens."""
        self.trimmed += 1
        self.trimmed_turns += turns
        self.trimmed_tokens += tokens

    def add_dropped(self, tokens: int) -> None:
        """Count a chat that is left out because it is too long."""
        self.dropped += 1
        self.dropped_tokens += tokens

    def add_bad(self, row: BadRow) -> None:
        """Count a record that cannot be trained on."""
        self.bad += 1
        if len(self.first_bad) < SHOWN:
            self.first_bad.append(row)

    def merge(self, later: RenderCounts) -> None:
        """Add the counts of the records that follow."""
        self.methods.update(later.methods)
        self.ignored.update(later.ignored)
        self.trimmed += later.trimmed
        self.trimmed_turns += later.trimmed_turns
        self.trimmed_tokens += later.trimmed_tokens
        self.dropped += later.dropped
        self.dropped_tokens += later.dropped_tokens
        self.short += later.short
        self.bad += later.bad
        self.first_bad = [*self.first_bad, *later.first_bad][:SHOWN]

    def report(self, template: str) -> RenderReport:
        """The counts, frozen. template: where the chat template is from."""
        return RenderReport(
            template=template,
            methods=ranked(self.methods),
            ignored=ranked(self.ignored),
            trimmed=self.trimmed,
            trimmed_turns=self.trimmed_turns,
            trimmed_tokens=self.trimmed_tokens,
            dropped=self.dropped,
            dropped_tokens=self.dropped_tokens,
            bad_rows=self.bad,
            first_bad=tuple(self.first_bad),
            short=self.short,
        )
