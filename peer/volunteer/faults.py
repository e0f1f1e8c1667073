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
| the network, while the base model is fetched | waited out |
| replicas that differ, after the newest checkpoint too | waited out: for another checkpoint |
| a GPU that fails while it computes, chosen by `auto` | training continues on the CPU |
| something in the format of a newer version | ends |
| a run that cannot be trained | ends |
"""

from __future__ import annotations

from enum import Enum

from barnraise.core.errors import (
    BarnraiseError,
    DiskFull,
    InvalidRun,
    KeyInUse,
    ModelUnreachable,
    NetworkError,
    NewerVersion,
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
    (ModelUnreachable, Fate.WAITED_OUT),
    (UserError, Fate.ENDS),
    (KeyInUse, Fate.WAITED_OUT),
    (RefusedError, Fate.ENDS),
    (NewerVersion, Fate.ENDS),
    (InvalidRun, Fate.ENDS),
    (StateError, Fate.WAITED_OUT),
    (BarnraiseError, Fate.ENDS),
)
"""The first class that fits an error decides."""


def fate_of(error: BarnraiseError) -> Fate:
    """What a volunteer does about `error`."""
    return next(fate for kind, fate in FATES if isinstance(error, kind))
