"""Which checkpoints the names `main`, `best` and `latest` stand for: pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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


def promote(
    losses: Mapping[int, float | None], promote_within: float, good_until: int | None = None
) -> Promotion:
    """Names for the checkpoints of a run.

    losses: the held-out loss by round, None where it could not be evaluated; never empty. promote_within: the
    share by which the loss of `main` may be above the best one. Of two with one loss the newer is the best.
    good_until: the round of the lowest training loss, where training diverges. While the held-out loss rises
    from evaluation to evaluation, `main` is the best one.
    """
    latest = max(losses)
    known = {round: loss for round, loss in losses.items() if loss is not None}
    if not known:
        good = [round for round in losses if good_until is None or round <= good_until]
        main = max(good, default=min(losses))
        return Promotion(main, None, latest, NoneEvaluated(main, diverged=main != latest))
    best = min(known, key=lambda round: (known[round], -round))
    limit = known[best] * (1 + promote_within)
    rising = rise([known[round] for round in sorted(known)]) == RISES
    main = best if rising else max(round for round, loss in known.items() if loss <= limit)
    skipped = _skipped({round: loss for round, loss in losses.items() if round > main})
    reason = LossNearBest(main, known[main], best, known[best], promote_within, skipped)
    return Promotion(main, best, latest, reason)


def _skipped(later: Mapping[int, float | None]) -> HigherLoss | Unevaluated | None:
    higher = [HigherLoss(round, loss) for round, loss in later.items() if loss is not None]
    if higher:
        return higher[-1]
    return Unevaluated(list(later)[-1]) if later else None
