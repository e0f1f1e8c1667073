"""Why a decision came out as it did: one small frozen type per reason, its numbers as fields.

Decisions answer with a reason, tests compare it, and one module per program (`coordinator.messages`,
`peer.messages`) renders it as a sentence.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass


@dataclass(frozen=True)
class Reason:
    """Base of all reasons."""

    def is_news_after(self, before: Reason | None) -> bool:
        """Whether a log should mention this reason when `before` was the last one mentioned.

        Seconds and counts that move on are not news: only another type, or another value of a field that is
        not a plain number, is.
        """
        return before is None or self._identity() != before._identity()

    def _identity(self) -> tuple[object, ...]:
        values = (getattr(self, field.name) for field in dataclasses.fields(self))
        return (type(self), *(value for value in values if not _is_number(value)))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
