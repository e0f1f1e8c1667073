"""What a model of a run knows of its head and of each volunteer."""

from __future__ import annotations

from dataclasses import dataclass, field

from barnraise.contract.records import Activity, Commit
from barnraise.core.ids import Millis, PublicKey, Round, StateHash
from peer.volunteer.actions import (
    Action,
)
from peer.volunteer.contribution_state import ContributionLifecycle
from peer.volunteer.durations import RoundTimer


@dataclass(frozen=True)
class Head:
    round: Round
    state: StateHash
    opens: Millis
    turns: int
    tokens: int
    checkpoint: Round
    at: Millis


@dataclass(frozen=True)
class Presence:
    round: Round
    tokens: int
    at: Millis
    doing: Activity


@dataclass
class Peer:
    key: PublicKey
    name: str
    head: Head
    base: Round
    state: StateHash
    step: int = 1_000
    """Milliseconds that a step takes."""
    lag: int = 0
    """Milliseconds until others see its commit."""
    fold: int = 0
    """Milliseconds that fetching and folding take."""
    alive: bool = True
    leaving: bool = False
    faulty: bool = False
    """Its next fold gives a wrong state."""
    tokens: int = 0
    steps: int = 0
    busy_until: int = 0
    pending: Commit | None = None
    lifecycle: ContributionLifecycle = field(default_factory=ContributionLifecycle)
    folded: tuple[Round, StateHash] | None = None
    """The round and state that it reaches once its exchange ends."""
    exchange_until: int = 0
    timer: RoundTimer = field(default_factory=lambda: RoundTimer(Millis(0)))
    owed: int = 0
    """Tokens whose work is in the residual."""
    action: Action | None = None
