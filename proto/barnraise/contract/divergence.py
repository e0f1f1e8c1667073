"""Whether a run's training diverges, by the losses that its contributions report: pure.

Both programs compute it from the closes. A volunteer states its loss itself, so the loss of a round is the
median, weighted by tokens: one that lies moves it only where it trained half of the round.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from typing_extensions import assert_never

from barnraise.contract.records import Commit
from barnraise.core.reason import Reason

RISES = 4
"""Rounds, or evaluations, of which each has a higher loss than the one before."""
RISE = 0.1
"""Share by which such losses have to be above the lowest one: the loss of a round varies with its samples."""
JUMP = 1.0
"""Nats a token above the lowest loss: the model finds a token e times less probable."""
NEAR = 0.95
"""Share of the loss of a model that knows nothing."""


@dataclass(frozen=True)
class LossAtChance(Reason):
    """The model predicts no better than one that gives each token the same probability."""

    loss: float
    chance: float
    """The logarithm of the vocabulary's size, in nats."""
    lowest: float


@dataclass(frozen=True)
class LossJumped(Reason):
    """The loss is far above the lowest one."""

    loss: float
    lowest: float


@dataclass(frozen=True)
class LossRises(Reason):
    """The loss rises from round to round."""

    loss: float
    rises: int
    lowest: float


Divergence = LossAtChance | LossJumped | LossRises


@dataclass(frozen=True)
class LossTrend:
    """The training losses of a run's rounds, as far as divergence depends on them."""

    recent: tuple[float, ...] = ()
    """The newest last."""
    lowest: float = math.inf
    lowest_round: int = 0

    def after(self, round: int, loss: float) -> LossTrend:
        """The trend after one more round."""
        trend = replace(self, recent=(*self.recent, loss)[-RISES - 1 :])
        return replace(trend, lowest=loss, lowest_round=round) if loss < self.lowest else trend

    @property
    def good_until(self) -> int | None:
        """The round of the lowest loss where training diverges, else None."""
        return self.lowest_round if self.divergence() else None

    def divergence(self, chance: float | None = None) -> Divergence | None:
        """Why training diverges; None where it does not. chance: the loss of a model that knows nothing."""
        if not self.recent:
            return None
        loss, lowest = self.recent[-1], self.lowest
        if chance is not None and loss >= NEAR * chance > lowest:
            return LossAtChance(loss, chance, lowest)
        if loss >= lowest + JUMP:
            return LossJumped(loss, lowest)
        if rise(self.recent) == RISES and loss >= lowest * (1 + RISE):
            return LossRises(loss, RISES, lowest)
        return None


def rise(losses: Sequence[float]) -> int:
    """How many of the newest losses are each higher than the one before, at most RISES."""
    count = 0
    for before, after in pairwise(reversed(losses)):
        if before <= after or count == RISES:
            break
        count += 1
    return count


def round_loss(commits: Sequence[Commit], weights: Sequence[int]) -> float:
    """The median of the contributions' training losses, by their weights in the close: what a key without
    weight reports counts nothing. commits: at least one that has a weight.
    """
    ordered = sorted((commit.loss, weight) for commit, weight in zip(commits, weights, strict=True))
    half, passed = sum(weights) / 2, 0
    for loss, weight in ordered:
        passed += weight
        if weight and passed >= half:
            return loss
    raise ValueError("no contributions")


def divergence_message(reason: Divergence) -> str:
    """The divergence in words."""
    match reason:
        case LossAtChance(loss, chance, lowest):
            nothing = f"a model that knows nothing has {chance:.2f}"
            return f"the training loss is {loss:.2f} and was {lowest:.2f}; {nothing}"
        case LossJumped(loss, lowest):
            return f"the training loss is {loss:.2f} and was {lowest:.2f}"
        case LossRises(loss, rises, lowest):
            return f"the training loss rose in {rises} rounds, to {loss:.2f}; it was {lowest:.2f}"
        case _:
            assert_never(reason)
