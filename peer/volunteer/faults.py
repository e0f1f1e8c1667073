"""What becomes of an error in a volunteer: one table.

A volunteer runs where nobody watches: it skips what can be skipped, waits for what may pass, and ends only
where a person is needed.

| error | fate |
|---|---|
| a step without a finite loss or gradient | skipped |
| no coordinator, peer or server can be reached | waited out |
| bytes that fail a check | waited out: another holder, or the same one later, has the right ones |
| a full disk | waited out |
| the server has another key than the invite | ends |
| what was typed, a folder in use, a missing package | ends |
| too little memory, no base model, a device or file that cannot be used | ends |
| another program takes part with the key | waited out: until it has ended |
| the coordinator refuses otherwise | ends |
| saved state or replicas that differ, after the newest checkpoint too | ends |
| a run that cannot be trained | ends |
"""

from __future__ import annotations

from enum import Enum

from barnraise.core.errors import (
    BarnraiseError,
    DiskFull,
    KeyInUse,
    NetworkError,
    NotFinite,
    RefusedError,
    StateError,
    TrustError,
    UserError,
    WrongRunKey,
)


class Fate(Enum):
    """What a volunteer does about an error."""

    SKIPPED = "skipped"
    """The work that it concerns is dropped, and the next begins."""
    WAITED_OUT = "waited out"
    """The work is tried again after a pause."""
    ENDS = "ends"
    """The program ends: a person is needed."""


FATES: tuple[tuple[type[BarnraiseError], Fate], ...] = (
    (NotFinite, Fate.SKIPPED),
    (DiskFull, Fate.WAITED_OUT),
    (WrongRunKey, Fate.ENDS),
    (NetworkError, Fate.WAITED_OUT),
    (TrustError, Fate.WAITED_OUT),
    (UserError, Fate.ENDS),
    (KeyInUse, Fate.WAITED_OUT),
    (RefusedError, Fate.ENDS),
    (StateError, Fate.ENDS),
    (BarnraiseError, Fate.ENDS),
)
"""The first class that fits an error decides."""


def fate_of(error: BarnraiseError) -> Fate:
    """What a volunteer does about `error`."""
    return next(fate for kind, fate in FATES if isinstance(error, kind))
