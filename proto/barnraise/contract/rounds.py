"""Round and phase arithmetic: pure functions of the run's clock, the spec and the head."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from barnraise.contract.spec import RoundSpec
from barnraise.core.ids import Millis, Round


class Phase(Enum):
    """The timed phases of a round (docs/ARCHITECTURE.md). FOLD starts with the close."""

    TRAIN = "train"
    PUBLISH = "publish"
    CLOSE = "close"


@dataclass(frozen=True)
class Window:
    """When the phases of one round start and end."""

    round: Round
    opens: Millis
    spec: RoundSpec

    @property
    def train_ends(self) -> Millis:
        return Millis(self.opens + round(self.spec.seconds * 1000))

    @property
    def deadline(self) -> Millis:
        """Contributions that arrive later miss the close."""
        return Millis(self.train_ends + round(self.spec.grace * 1000))

    def phase(self, now: Millis, swarm_tokens: int) -> Phase:
        """The phase at `now`. swarm_tokens: tokens that all peers report for this round."""
        target = self.spec.target_tokens
        if now < self.train_ends and not (target is not None and swarm_tokens >= target):
            return Phase.TRAIN
        return Phase.PUBLISH if now < self.deadline else Phase.CLOSE


def seconds_between(start: Millis, end: Millis) -> float:
    """Seconds from `start` to `end`; negative where `end` is earlier."""
    return (end - start) / 1000
