"""Whether a licence permits redistribution."""

from __future__ import annotations

from dataclasses import dataclass

from barnraise.core.reason import Reason


@dataclass(frozen=True)
class Redistributable:
    """The licence permits redistribution."""

    licence: str
    """Its name, as `OPEN` has it."""


@dataclass(frozen=True)
class NotRedistributable(Reason):
    """The licence is not known to permit redistribution."""

    key: str
    """Where the run spec names it, such as `data.licence`."""
    licence: str
    """As the run spec has it."""
