"""Rows as files hold them, before their meaning is known."""

from __future__ import annotations

from typing import NamedTuple

from coordinator.reasons.dataset import BadRow

__all__ = ["AnyRow", "BadRow", "OtherSplitRow", "Row", "Unusable"]


class Row(NamedTuple):
    """One row of a source."""

    value: object
    """A JSON value, or a record of Parquet or CSV as one."""
    where: str
    """File and line, for messages."""


class OtherSplitRow(NamedTuple):
    """A row of a split that is not trained on, in a file that holds several."""

    split: str


AnyRow = Row | BadRow | OtherSplitRow
"""What a file gives for each of its rows."""


class Unusable(Exception):
    """A row cannot be trained on; `records` counts it as a bad row."""

    def __init__(self, problem: str, *, fix: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.fix = fix
