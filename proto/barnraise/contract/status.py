"""The status of a run, for people and for tools: what `coordinator status` shows. Everybody may read it."""

from __future__ import annotations

from barnraise.core.strict import Strict


class PeerStatus(Strict):
    """One volunteer by its newest heartbeat."""

    name: str
    """Empty unless its owner joined with `--credit`."""
    key: str
    """Shortened."""
    round: int
    """The round that it works on."""
    state: str
    """Hash of the state that it holds: the base of that round."""
    tokens: int
    """Tokens trained in that round so far."""
    tokens_per_second: float
    seen_seconds_ago: float
    not_awaited: str = ""
    """Why no close waits for it; empty where one does, or where it does not train in the open round."""


class FaultStatus(Strict):
    """A volunteer's claim that the run cannot be trained."""

    key: str
    """Shortened."""
    device: str
    problem: str
    seconds_ago: float


class RunStatus(Strict):
    """The open round, the newest state and checkpoint, and the live volunteers."""

    run: str
    round: int
    """The open round."""
    phase: str
    """train, publish or close; over where the run has ended."""
    waiting_for: str
    """Why the round is still open, and until when."""
    state: str
    """Hash of the coordinator's own state."""
    state_round: int
    """The round that state is the base of."""
    tokens: int
    """Tokens folded since the run began."""
    loss: float | None
    """Token-weighted training loss of the last closed round."""
    checkpoint_round: int
    divergence: str
    """Why training diverges; empty where it does not."""
    evaluation: str
    """What the newest checkpoint without a held-out loss waits for; empty without vouched volunteers."""
    peers: tuple[PeerStatus, ...]
    length: str = ""
    """How far the run is, and its learning rate."""
    rehearsed: bool = True
    """Whether the coordinator took one step on the data before the run began."""
    faults: tuple[FaultStatus, ...] = ()
    """What volunteers report to fail, the newest first."""
