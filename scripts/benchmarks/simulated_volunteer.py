"""A volunteer of `simulation.py`: its pace and its lines are random, the rest is the program's own code."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from barnraise.contract.records import Activity, Admission, Commit, Presence, seal
from barnraise.contract.sample_ranges import SampleRange
from barnraise.contract.state import Array
from barnraise.core.identity import Identity
from barnraise.core.ids import Millis, Round, StateHash
from barnraise.core.signed import sign
from peer.volunteer.actions import Exchanging
from peer.volunteer.contribution_state import ContributionEvent, ContributionLifecycle
from peer.volunteer.durations import RoundTimer

STEP_SECONDS, SLOWEST = 0.6, 50.0
UPLINKS, DOWNLINKS = (5, 50), (25, 250)
"""Mbit/s, uniform on a logarithmic scale."""


@dataclass
class SimulatedVolunteer:
    """One volunteer: its identity, its speed, its lines, and where it is in the run."""

    identity: Identity
    admission: str
    step_seconds: float
    up: float
    """Bytes per second."""
    down: float
    base: Round
    state: StateHash
    timer: RoundTimer
    residual: dict[str, Array] = field(default_factory=dict)
    tokens: int = 0
    steps: int = 0
    lifecycle: ContributionLifecycle = field(default_factory=ContributionLifecycle)
    doing: Activity = "training"
    exchange_until: float = 0.0
    folded: Round | None = None
    stood: float = 0.0
    """Seconds without training."""
    received: float = 0.0
    """Bytes of blobs received."""

    def presence(self, run: str, now: Millis) -> bytes:
        """Its heartbeat, as sent."""
        return seal(
            self.identity,
            Presence(
                run=run, owner=self.identity.public, instance="0" * 16,
                admission=self.admission, name="volunteer",
                round=self.base, state=self.state, tokens=self.tokens, tokens_per_second=100.0,
                doing=self.doing, parts=1, keeps=self.base, at=now,
            ),
        )  # fmt: skip

    def step(self, tokens: int) -> float:
        """Train one inner step on `tokens`; returns its seconds."""
        self.tokens += tokens
        self.steps += 1
        self.timer.stepped(0, self.step_seconds)
        return self.step_seconds

    def exchanging(self, now: Millis) -> Exchanging:
        """Where its exchange is."""
        if now < self.exchange_until:
            return Exchanging.BUSY
        return Exchanging.IDLE if self.folded is None else Exchanging.FOLDED

    def rebase(self, states: Sequence[StateHash], now: Millis) -> None:
        """Continue from the state that it folded; `states` has that of each round."""
        assert self.folded is not None
        if not self.lifecycle.taken:
            self.steps = 0
        self.lifecycle.advance(ContributionEvent.REBASE)
        self.base, self.folded = self.folded, None
        self.state = states[self.base]
        self.timer.rebased(now)

    def commit(self, run: str, blob: str, size: int, tokens: int, samples: int) -> Commit:
        """Its commit to a blob, whose list of pieces is not that of a real one."""
        return Commit(
            run=run, round=self.base, base_state=self.state, owner=self.identity.public,
            admission=self.admission, blob=blob, pieces=blob, size=size, tokens=tokens,
            samples=samples, loss=1.0, ranges=(SampleRange(round=self.base, start=0, count=samples),),
        )  # fmt: skip

    def sample_commit(self, run: str, blob_bytes: int) -> bytes:
        """A commit of usual size, as sent; its blob is not a real one."""
        return seal(self.identity, self.commit(run, self.state, blob_bytes, tokens=10**6, samples=10**3))


def drawn(
    number: int, draws: random.Random, authority: Identity, run: str, now: Millis, state: StateHash
) -> SimulatedVolunteer:
    """Volunteer `number`, admitted by `authority`, about to train from `state`."""
    identity = Identity.from_seed(number.to_bytes(31, "big") + b"\x07")
    admission = Admission(run=run, peer=identity.public, expires=2**47)
    return SimulatedVolunteer(
        identity=identity,
        admission=sign(authority, admission).text,
        step_seconds=STEP_SECONDS * SLOWEST ** draws.random(),
        up=_line(UPLINKS, draws),
        down=_line(DOWNLINKS, draws),
        base=Round(0),
        state=state,
        timer=RoundTimer(now),
    )


def _line(bounds: tuple[int, int], draws: random.Random) -> float:
    return bounds[0] * (bounds[1] / bounds[0]) ** draws.random() * 125_000
