"""What a verified checkpoint was proved to be."""

from __future__ import annotations

from dataclasses import dataclass

from barnraise.core.ids import PublicKey, RunId, StateHash
from peer.verify.evaluations import HeldOutOrigin


@dataclass(frozen=True)
class FromAdapterSeed:
    """Replayed from the run's first round: state[0] is the adapter that the run's seed gives."""

    seed: int


@dataclass(frozen=True)
class FromBaseModel:
    """Replayed from the run's first round: state[0] is the base model."""

    source: str
    """Its name in the spec."""


@dataclass(frozen=True)
class FromCheckpoint:
    """Replayed from a checkpoint that the run's key signed. The rounds before it are not proved."""

    round: int


Start = FromAdapterSeed | FromBaseModel | FromCheckpoint


@dataclass(frozen=True)
class Proved:
    """A checkpoint that the run's log leads to."""

    run: RunId
    key: PublicKey
    """The only key that is trusted."""
    round: int
    state: StateHash
    start: Start
    rounds: int
    """Replayed, as the next two."""
    contributions: int
    volunteers: int
    tokens: int
    """Folded since the run began."""
    files: int
    """Of the checkpoint: each matches the manifest, and together they hold the state."""
    seconds: float
    """Duration of the verification."""
    held_out: HeldOutOrigin
    training: float | None
    """Mean seconds between the closes of these rounds; None for a single round."""
    mean_of: tuple[int, ...] = ()
    """Rounds of the states whose mean it is; none: it is the state of its round."""
    signed: tuple[int, ...] = ()
    """Those that were taken from checkpoints which the run's key signed, and not replayed."""
