"""Which checkpoints the names `main`, `best` and `latest` stand for: pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Standing:
    """Rounds of checkpoints, and why `main` is where it is."""

    main: int
    """What somebody gets who does not say which."""
    best: int | None
    """The lowest held-out loss; None where no checkpoint was evaluated."""
    latest: int
    reason: str


def standing(losses: Mapping[int, float | None], promote_within: float) -> Standing:
    """Names for the checkpoints of a run.

    losses: the held-out loss by round, None where it could not be evaluated; never empty. promote_within: the
    share by which the loss of `main` may be above the best one. Of two with one loss the newer is the best.
    """
    latest = max(losses)
    known = {round: loss for round, loss in losses.items() if loss is not None}
    if not known:
        return Standing(latest, None, latest, f"round {latest} is the newest; none could be evaluated")
    best = min(known, key=lambda round: (known[round], -round))
    limit = known[best] * (1 + promote_within)
    main = max(round for round, loss in known.items() if loss <= limit)
    skipped = [round for round in losses if round > main]
    reason = f"round {main} predicts held-out text with a loss of {known[main]:.4f}"
    if main != best:
        reason += f", within {promote_within:.1%} of the best, {known[best]:.4f} of round {best}"
    if worse := [round for round in skipped if round in known]:
        reason += f"; round {worse[-1]} has {known[worse[-1]]:.4f} and was not promoted"
    elif skipped:
        reason += f"; round {skipped[-1]} was not evaluated"
    return Standing(main, best, latest, reason)
