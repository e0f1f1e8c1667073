"""Which checkpoints the names `main`, `best` and `latest` stand for: pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from barnraise.contract.divergence import RISES, rise
from coordinator.reasons.checkpoints import HigherLoss, LossNearBest, NoneEvaluated, Unevaluated


@dataclass(frozen=True)
class Promotion:
    """Rounds of checkpoints, and why one of them is `main`."""

    main: int
    """What a download gets that names no revision."""
    best: int | None
    """The lowest held-out loss; None where no checkpoint was evaluated."""
    latest: int
    reason: NoneEvaluated | LossNearBest
    main_averaged: bool = False
    """`main` is not the state of its round, but the mean of states up to there."""
    best_averaged: bool = False
    """The same of `best`."""

    def names_average(self, round: int) -> bool:
        """Whether the mean of states up to a round is `main` or `best`."""
        main, best = (self.main, self.main_averaged), (self.best, self.best_averaged)
        return (round, True) in (main, best)


def promote(
    losses: Mapping[int, float | None],
    promote_within: float,
    good_until: int | None = None,
    averages: Mapping[int, float] = MappingProxyType({}),
) -> Promotion:
    """Names for the checkpoints of a run.

    losses: the held-out loss by round, None where it could not be evaluated; never empty. promote_within: the
    share by which the loss of `main` may be above the best one. Of two with one loss the newer is the best.
    good_until: the round of the lowest training loss, where training diverges. While the held-out loss rises
    from evaluation to evaluation, `main` is the best one. averages: the held-out loss of the mean of states
    up to a round, where there is one; it stands for its round if it is lower than that of the state.
    """
    latest = max(losses)
    known = {round: loss for round, loss in losses.items() if loss is not None}
    if not known:
        good = [round for round in losses if good_until is None or round <= good_until]
        main = max(good, default=min(losses))
        return Promotion(main, None, latest, NoneEvaluated(main, diverged=main != latest))
    averaged = {round for round in known.keys() & averages.keys() if averages[round] < known[round]}
    lowest = {round: averages[round] if round in averaged else loss for round, loss in known.items()}
    best = min(lowest, key=lambda round: (lowest[round], -round))
    limit = lowest[best] * (1 + promote_within)
    rising = rise([known[round] for round in sorted(known)]) == RISES
    main = best if rising else max(round for round, loss in lowest.items() if loss <= limit)
    skipped = _skipped({round: lowest.get(round) for round in losses if round > main})
    states = known[main] if main in averaged else None
    reason = LossNearBest(main, lowest[main], best, lowest[best], promote_within, skipped, states)
    return Promotion(main, best, latest, reason, main in averaged, best in averaged)


def _skipped(later: Mapping[int, float | None]) -> HigherLoss | Unevaluated | None:
    higher = [HigherLoss(round, loss) for round, loss in later.items() if loss is not None]
    if higher:
        return higher[-1]
    return Unevaluated(list(later)[-1]) if later else None
