"""Round and phase arithmetic: pure functions of the run's clock, the spec and the head."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from barnraise.contract.spec import RoundSpec
from barnraise.core.ids import Millis, Round


class Phase(Enum):
    """The phases of a round (docs/ARCHITECTURE.md). FOLD has no time of its own: it follows the close."""

    TRAIN = "train"
    PUBLISH = "publish"
    CLOSE = "close"


@dataclass(frozen=True)
class Window:
    """One round's times."""

    round: Round
    opens: Millis
    spec: RoundSpec

    @property
    def train_ends(self) -> Millis:
        return Millis(self.opens + round(self.spec.seconds * 1000))

    @property
    def deadline(self) -> Millis:
        """Contributions that come later miss the close."""
        return Millis(self.train_ends + round(self.spec.grace * 1000))

    def phase(self, now: Millis, swarm_tokens: int) -> Phase:
        """swarm_tokens: what all peers together say they trained in this round."""
        target = self.spec.target_tokens
        if now < self.train_ends and not (target is not None and swarm_tokens >= target):
            return Phase.TRAIN
        return Phase.PUBLISH if now < self.deadline else Phase.CLOSE


def seconds_between(start: Millis, end: Millis) -> float:
    return (end - start) / 1000
