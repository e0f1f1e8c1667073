"""Renders the reasons of promotion."""

from __future__ import annotations

from typing_extensions import assert_never

from coordinator.store.promotion import HigherLoss, LossNearBest, NoneEvaluated, Unevaluated


def promotion(reason: NoneEvaluated | LossNearBest) -> str:
    """Why `main` stands where it does."""
    match reason:
        case NoneEvaluated(main):
            return f"round {main} is the newest; none could be evaluated"
        case LossNearBest(main, loss, best, best_loss, within, skipped):
            text = f"round {main} predicts held-out text with a loss of {loss:.4f}"
            if main != best:
                text += f", within {within:.1%} of the best, {best_loss:.4f} of round {best}"
            return text if skipped is None else f"{text}; {_skipped(skipped)}"
        case _:
            assert_never(reason)


def _skipped(reason: HigherLoss | Unevaluated) -> str:
    match reason:
        case HigherLoss(round, loss):
            return f"round {round} has {loss:.4f} and was not promoted"
        case Unevaluated(round):
            return f"round {round} was not evaluated"
        case _:
            assert_never(reason)
