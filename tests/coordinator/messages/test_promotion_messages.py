"""The words of the reasons of promotion."""

from __future__ import annotations

import pytest

from coordinator.messages import checkpoints as messages
from coordinator.reasons.checkpoints import HigherLoss, LossNearBest, NoneEvaluated, Unevaluated


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (
            NoneEvaluated(5, diverged=True),
            "round 5 is the newest from before training diverged; none could be evaluated",
        ),
        (NoneEvaluated(5), "round 5 is the newest; none could be evaluated"),
        (
            LossNearBest(5, 2.5, 5, 2.5, 0.01, None),
            "round 5 predicts held-out text with a loss of 2.5000",
        ),
        (
            LossNearBest(10, 2.51, 5, 2.5, 0.01, None),
            "round 10 predicts held-out text with a loss of 2.5100,"
            " within 1.0% of the best, 2.5000 of round 5",
        ),
        (
            LossNearBest(5, 2.5, 5, 2.5, 0.01, HigherLoss(10, 2.6)),
            "round 5 predicts held-out text with a loss of 2.5000; round 10 has 2.6000 and was not promoted",
        ),
        (
            LossNearBest(5, 2.5, 5, 2.5, 0.01, Unevaluated(10)),
            "round 5 predicts held-out text with a loss of 2.5000; round 10 was not evaluated",
        ),
    ],
)
def test_a_promotion_is_explained(reason: NoneEvaluated | LossNearBest, words: str) -> None:
    assert messages.promotion_message(reason) == words
