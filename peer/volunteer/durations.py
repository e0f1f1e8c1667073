"""How long a volunteer's steps and rounds take, and what that means for the run's rounds."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum

from barnraise.contract.rounds import seconds_between
from barnraise.contract.spec import RoundSpec
from barnraise.core.ids import Millis
from barnraise.core.reason import Reason
from peer.timing import TIMING

LONG_EXCHANGE = 0.1
"""Share of a round's training. During a longer exchange, training continues."""
FEW_STEPS, MANY_STEPS = 5, 500
"""Inner steps between two exchanges: fewer hardly pay for the exchange, more drift apart. About 30 to
100 did best (Douillard et al. 2023; Charles et al. 2025)."""
RECENT_STEPS = 5
OUTAGES = 16
"""Outages that are remembered: more than fall in one exchange."""


@dataclass(frozen=True)
class Durations:
    """Measured durations in seconds; 0 before the first."""

    step: float = 0.0
    """The longest but one of the last steps: one that was held up does not count."""
    train: float = 0.0
    """From taking up the last round's state until its contribution was published, or one step where that took
    longer: it began in an earlier round."""
    exchange: float = 0.0
    """From publishing until the round was folded, without outages."""
    send: float = 0.0
    """From publishing until a peer had the whole contribution, without outages."""
    ahead: float = 0.0
    """Since the contribution to this round was published; 0 where it was not."""
    mean_step: float = 0.0
    """Mean of the last steps."""


@dataclass
class RoundTimer:
    """Measures `Durations` from the moments that it is called at, by a clock that leaves pauses out."""

    began: Millis
    """When the state that is trained from was taken up."""
    silence: float = TIMING.reconnect_after
    """A time without heads that is longer, in seconds, is an outage."""
    _train: float = 0.0
    _exchange: float = 0.0
    _send: float = 0.0
    _published: Millis | None = None
    _recent: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=RECENT_STEPS))
    """Tokens and seconds of the last steps."""
    _head_at: Millis | None = None
    """When the newest head arrived."""
    _outages: deque[tuple[Millis, Millis]] = field(default_factory=lambda: deque(maxlen=OUTAGES))
    """Beginning and end of the last times without heads."""

    def stepped(self, tokens: int, seconds: float) -> None:
        """A step has ended."""
        self._recent.append((tokens, seconds))

    def published(self, now: Millis) -> None:
        """The contribution was taken."""
        self._train = max(seconds_between(self.began, now), self._step)
        self._published = now

    def sent(self, began: Millis, now: Millis) -> None:
        """A peer has the whole contribution that was published at `began`, even if it missed its close."""
        self._send = self._connected(began, now)

    def folded(self, now: Millis) -> None:
        """The round was folded. Without a contribution there was no exchange to measure."""
        if self._published is not None:
            self._exchange = self._connected(self._published, now)

    def head_arrived(self, now: Millis) -> None:
        """A newer head has arrived."""
        self._outages.extend(self._outage(now))
        self._head_at = now

    def rebased(self, now: Millis) -> None:
        """The training went over to a newer state."""
        self.began, self._published = now, None

    def measured(self, now: Millis) -> Durations:
        """All durations so far."""
        ahead = 0.0 if self._published is None else seconds_between(self._published, now)
        recent = [seconds for _, seconds in self._recent]
        mean = sum(recent) / max(1, len(recent))
        return Durations(self._step, self._train, self._exchange, self._send, ahead, mean)

    @property
    def steady(self) -> bool:
        """Whether enough steps were measured to judge by: the first ones are slow."""
        return len(self._recent) == RECENT_STEPS

    @property
    def tokens_per_second(self) -> float:
        """Over the last steps."""
        seconds = sum(seconds for _, seconds in self._recent)
        return sum(tokens for tokens, _ in self._recent) / seconds if seconds else 0.0

    @property
    def tokens_per_step(self) -> float:
        """Over the last steps."""
        return sum(tokens for tokens, _ in self._recent) / max(1, len(self._recent))

    @property
    def _step(self) -> float:
        longest = sorted(seconds for _, seconds in self._recent)
        return longest[max(0, len(longest) - 2)] if longest else 0.0

    def _connected(self, began: Millis, ended: Millis) -> float:
        """Seconds from `began` to `ended`, which is now, without the outages."""
        # What an outage held up may end before the next head says that the outage has ended.
        outages = (*self._outages, *self._outage(ended))
        away = sum(max(0, min(end, ended) - max(start, began)) for start, end in outages)
        return (ended - began - away) / 1000

    def _outage(self, now: Millis) -> tuple[tuple[Millis, Millis], ...]:
        """The time since the newest head where it is an outage."""
        if self._head_at is None or seconds_between(self._head_at, now) <= self.silence:
            return ()
        return ((self._head_at, now),)


class StepCount(Enum):
    """How many inner steps fit in a round."""

    NONE = "none"
    FEW = "few"
    FIT = "fit"
    MANY = "many"


@dataclass(frozen=True)
class StepsPerRound(Reason):
    """How many inner steps this machine takes in a round."""

    count: StepCount
    steps: float
    batch: int
    step_seconds: float
    round_seconds: float


@dataclass(frozen=True)
class ExchangeShare(Reason):
    """How long the exchange took, and whether training continues during it."""

    exchange_seconds: float
    train_seconds: float
    overlaps: bool
    by_run: bool
    """The run spec says so; else the measurement does."""


Advice = StepsPerRound | ExchangeShare


def overlaps(spec: RoundSpec, durations: Durations) -> bool:
    """Whether training continues during the exchange, judged by the last one."""
    match spec.overlap:
        case "always":
            return True
        case "never":
            return False
        case "auto":
            return durations.exchange > LONG_EXCHANGE * durations.train


def step_advice(durations: Durations, batch: int, spec: RoundSpec) -> StepsPerRound:
    """How many inner steps of `batch` samples fit in a round."""
    steps = spec.seconds / durations.step
    if spec.steps is not None:
        steps = min(steps, spec.steps)
    return StepsPerRound(_step_count(steps), steps, batch, durations.step, spec.seconds)


def exchange_advice(durations: Durations, spec: RoundSpec) -> ExchangeShare:
    """Whether training waits for the exchange, and why."""
    goes_on = overlaps(spec, durations)
    return ExchangeShare(durations.exchange, durations.train, goes_on, by_run=spec.overlap != "auto")


def _step_count(steps: float) -> StepCount:
    if steps < 1:
        return StepCount.NONE
    if steps < FEW_STEPS:
        return StepCount.FEW
    return StepCount.MANY if steps > MANY_STEPS else StepCount.FIT
