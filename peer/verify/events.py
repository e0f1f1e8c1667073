"""The events that a verification reports: types that `peer.messages` renders. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from barnraise.core.ids import PublicKey, RunId, StateHash
from barnraise.core.reason import Reason
from peer.archive.events import BaseEvent


@dataclass(frozen=True)
class CheckingFiles(Reason):
    """The hash of every file of the checkpoint is computed."""

    run: RunId
    round: int
    state: StateHash
    files: int
    size: int
    """Bytes."""


@dataclass(frozen=True)
class ContributionsDropped(Reason):
    """The archive no longer has the contributions of the rounds before this one."""

    round: int


@dataclass(frozen=True)
class StartFromCheckpoint(Reason):
    """The replay starts from a signed checkpoint instead of the base model."""

    round: int


@dataclass(frozen=True)
class InitializingAdapter(Reason):
    """state[0] is computed from the run's seed."""

    seed: int


@dataclass(frozen=True)
class ReadingBaseModel(Reason):
    """state[0] is read from the base model."""

    source: str


@dataclass(frozen=True)
class CloserLied(Reason):
    """The archive has the proof that a closer signed two statements of which an honest one signs one."""

    closer: PublicKey
    kind: str
    """As of `barnraise.consensus.lies.LieKind`."""
    round: int


VerifyEvent = (
    CheckingFiles
    | ContributionsDropped
    | StartFromCheckpoint
    | InitializingAdapter
    | ReadingBaseModel
    | CloserLied
    | BaseEvent
)


@dataclass(frozen=True)
class ReplayProgress:
    """How far a replay is."""

    rounds: int
    """Replayed."""
    total: int
    contributions: int
    """Folded."""
    seconds: float
    """Since the replay began."""
