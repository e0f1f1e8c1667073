"""What a verified checkpoint was proved to be."""

from __future__ import annotations

from dataclasses import dataclass

from barnraise.core.ids import PublicKey, RunId, StateHash
from peer.verify.evaluations import HeldOutOrigin


@dataclass(frozen=True)
class FromBase:
    """Replayed from the run's first round."""

    told: str
    """How state[0] was made here."""


@dataclass(frozen=True)
class FromCheckpoint:
    """Replayed from a checkpoint that the run's key signed. What came before is not proved."""

    round: int


@dataclass(frozen=True)
class Proved:
    run: RunId
    key: PublicKey
    """The only thing that was believed."""
    round: int
    state: StateHash
    start: FromBase | FromCheckpoint
    rounds: int
    """Replayed, as are the next two."""
    contributions: int
    volunteers: int
    tokens: int
    """Folded since the run began."""
    files: int
    """Of the checkpoint: each is what its manifest says, and together they hold the state."""
    seconds: float
    """That all of it took."""
    held_out: HeldOutOrigin
    training: float | None
    """Seconds that one of these rounds took to train, as the closes tell; None of a single round."""
