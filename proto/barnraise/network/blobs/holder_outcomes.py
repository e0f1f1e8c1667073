"""The outcome for each holder of a blob, as types, and the error that lists them for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from typing_extensions import assert_never

from barnraise.core.errors import Unreachable
from barnraise.core.ids import BlobHash, PublicKey, short
from barnraise.core.reason import Reason
from barnraise.network.blobs.reputation import FaultKind


@dataclass(frozen=True)
class Untrusted(Reason):
    """It was not asked, because of an earlier fault."""


@dataclass(frozen=True)
class ConnectionFailed(Reason):
    """It could not be reached, or the connection broke."""

    error: str
    """The exception's class and text."""


@dataclass(frozen=True)
class NothingMissing(Reason):
    """It holds no piece that is missing here."""


@dataclass(frozen=True)
class NotHeld(Reason):
    """It does not hold the blob, or no longer does."""


@dataclass(frozen=True)
class Faulted(Reason):
    """It was dropped after a fault."""

    kind: FaultKind


@dataclass(frozen=True)
class WrongSize(Reason):
    """It offers another size than may be read."""

    offered: int
    limit: int


@dataclass(frozen=True)
class Rejected(Reason):
    """What it served was not accepted into the store."""

    problem: str


HolderOutcome = Untrusted | ConnectionFailed | NothingMissing | NotHeld | Faulted | WrongSize | Rejected


class BlobUnavailable(Unreachable):
    """No holder served a blob, or not all of it."""

    def __init__(
        self,
        blob: BlobHash,
        outcomes: Mapping[PublicKey, HolderOutcome],
        pieces: tuple[int, int] | None = None,
    ) -> None:
        """pieces: how many are here, and how many the blob has; None where it is fetched whole."""
        held = "" if pieces is None else f": {pieces[0]} of {pieces[1]} pieces are here"
        each = "; ".join(f"{short(key)} {describe(outcome)}" for key, outcome in outcomes.items())
        super().__init__(
            f"no holder served all of the blob {short(blob)}{held} ({each or 'no holder is known'})",
            fix="It is requested again; if this repeats, its owner left before any other node copied it.",
        )
        self.outcomes = dict(outcomes)
        self.pieces = pieces


def describe(outcome: HolderOutcome) -> str:
    """The predicate of a sentence about the holder."""
    match outcome:
        case Untrusted():
            return "is not trusted after an earlier fault"
        case ConnectionFailed(error):
            return f"cannot be reached: {error}"
        case NothingMissing():
            return "holds nothing that is missing"
        case NotHeld():
            return "does not hold it"
        case Faulted(kind):
            return describe_fault(kind)
        case WrongSize(offered, limit):
            return f"offers {offered} bytes, not {limit}"
        case Rejected(problem):
            return f"served it, but it was not accepted: {problem}"
        case _:
            assert_never(outcome)


def describe_fault(kind: FaultKind) -> str:
    """The predicate of a sentence about the holder."""
    match kind:
        case FaultKind.BAD_HASH:
            return "served bytes of a wrong hash"
        case FaultKind.BROKEN_PROMISE:
            return "did not serve what it had offered"
        case FaultKind.FALSE_COMMIT:
            return "signed a commit that is not its blob's"
        case FaultKind.STALLED:
            return "stopped in the middle of an answer"
        case FaultKind.DISCONNECTED:
            return "broke the connection or cannot be reached"
        case _:
            assert_never(kind)


def connection_failed(error: Exception) -> ConnectionFailed:
    """The outcome of an OSError, EOFError or TimeoutError."""
    return ConnectionFailed(f"{type(error).__name__} {error}".rstrip())
