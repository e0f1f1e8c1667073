"""Which versions of Barnraise take part in one run together.

Each program says in its claim to join, or in its heads, which version of the protocol it speaks, and which is
the oldest that it works with. Two programs fit together where each works with what the other speaks. Programs
that fit ignore fields that they do not know (`barnraise.core.signed.Extensible`), so that the programs of a
run can be updated one after another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from barnraise import __version__
from barnraise.contract.field_types import Time
from barnraise.core.errors import RefusedError
from barnraise.core.ids import Millis
from barnraise.core.reason import Reason
from barnraise.core.strict import Strict

SPOKEN = 1
"""The version of what programs send each other. A change that the version before cannot ignore raises it."""
OLDEST = 1
"""The oldest version that this program works with. It rises with `SPOKEN` where it cannot stay."""

Number = Annotated[int, Field(ge=1, lt=2**31)]


class Protocol(Strict):
    """What one program speaks."""

    model_config = ConfigDict(extra="ignore")

    speaks: Number
    works_with: Number
    """The oldest version of the protocol that the program works with."""
    release: Annotated[str, Field(pattern=r"^[0-9A-Za-z.+-]{1,40}$")]
    """The version of Barnraise, for words."""


OWN = Protocol(speaks=SPOKEN, works_with=OLDEST, release=__version__)
"""This program's."""


@dataclass(frozen=True)
class TooOld(Reason):
    """The other program speaks a version that this one no longer works with."""

    theirs: str
    """Versions of Barnraise."""
    ours: str


@dataclass(frozen=True)
class TooNew(Reason):
    """The other program no longer works with the version that this one speaks."""

    theirs: str
    ours: str


Misfit = TooOld | TooNew


def misfit(theirs: Protocol, ours: Protocol = OWN) -> Misfit | None:
    """Why two programs do not fit together; None where they do."""
    if theirs.speaks < ours.works_with:
        return TooOld(theirs.release, ours.release)
    if ours.speaks < theirs.works_with:
        return TooNew(theirs.release, ours.release)
    return None


class ClaimantDoesNotFit(RefusedError):
    """A volunteer's program does not fit to this coordinator. The words are for the volunteer."""

    def __init__(self, reason: Misfit) -> None:
        match reason:
            case TooOld(theirs, ours):
                super().__init__(
                    f"Barnraise {theirs} is too old for this run, whose coordinator has {ours}",
                    fix=f"Install it: pip install -U 'barnraise>={ours}'",
                )
            case TooNew(theirs, ours):
                super().__init__(
                    f"Barnraise {theirs} no longer works with this run's coordinator, which has {ours}",
                    fix=f"Install that: pip install 'barnraise=={ours}', or ask the maintainer to update.",
                )
        self.reason = reason


class CoordinatorDoesNotFit(RefusedError):
    """The run's coordinator does not fit to this program."""

    def __init__(self, reason: Misfit, at: Millis) -> None:
        """at: when the coordinator said so."""
        match reason:
            case TooOld(theirs, ours):
                super().__init__(
                    f"this run's coordinator has Barnraise {theirs}, which {ours} no longer works with",
                    fix=f"Install that: pip install 'barnraise=={theirs}', or ask the maintainer to update.",
                )
            case TooNew(theirs, ours):
                super().__init__(
                    f"this run's coordinator has Barnraise {theirs}, for which {ours} is too old",
                    fix=f"Install it: pip install -U 'barnraise>={theirs}'",
                )
        self.reason, self.at = reason, at


class _Spoken(BaseModel):
    """What a record says of its sender in every version of the protocol."""

    model_config = ConfigDict(extra="ignore", strict=True)

    protocol: Protocol
    at: Time


def read_misfit(payload: bytes) -> tuple[Misfit, Millis] | None:
    """Why the sender of a claim or a head does not fit, and when it said so; None where it does.

    The rest of the record may be of any version.
    """
    try:
        spoken = _Spoken.model_validate_json(payload)
    except ValidationError:
        return None  # the record's own model says what is wrong
    found = misfit(spoken.protocol)
    return None if found is None else (found, Millis(spoken.at))
