"""What an entry of the log says of the standing of keys."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from barnraise.contract.standing import Level, Work
from barnraise.core.strict import Hex64, Strict

MAX_CHANGES = 512
"""With verdicts and notes of the largest size they fit into an entry."""
MAX_NOTE = 400
MAX_VERDICT_BYTES = 3072


class Change(Strict):
    """The standing of one key from now on."""

    key: Hex64
    level: Level
    work: Work = 0
    """Its audited contributions."""
    cause: Literal["order", "lifted", "audit", "work"]
    """order: of the maintainer, for this key. lifted: the maintainer's too, and the key is as a new one: its
    trust is not by name. audit: a verdict. work: probation is served, or counts on."""
    verdict: Annotated[str, Field(max_length=4 * MAX_VERDICT_BYTES // 3)] | None = None
    """The signed verdict in base64, where an audit is the cause."""
    note: Annotated[str, Field(max_length=MAX_NOTE)] = ""
    """Why, in the maintainer's words."""


def _distinct(changes: tuple[Change, ...]) -> tuple[Change, ...]:
    keys = [change.key for change in changes]
    if keys != sorted(set(keys)):
        raise ValueError("changes are not sorted by distinct keys")
    return changes


Changes = Annotated[tuple[Change, ...], Field(max_length=MAX_CHANGES), AfterValidator(_distinct)]
"""Sorted by distinct keys."""
