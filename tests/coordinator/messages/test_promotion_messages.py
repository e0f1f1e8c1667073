"""The words of the reasons of promotion."""

from __future__ import annotations

import pytest

from barnraise.evaluation.failures import LossNotFinite
from coordinator.messages import checkpoints as messages
from coordinator.reasons.checkpoints import (
    HigherLoss,
    LossNearBest,
    MeanFailed,
    MeanOutcome,
    MeanTried,
    NoneEvaluated,
    NoSpaceForMean,
    StateUnreadable,
    Unevaluated,
)


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
        (
            LossNearBest(5, 2.4, 5, 2.4, 0.01, None, 2.5),
            "the mean of states up to round 5 predicts held-out text with a loss of 2.4000"
            " (2.5000 by its state alone)",
        ),
    ],
)
def test_a_promotion_is_explained(reason: NoneEvaluated | LossNearBest, words: str) -> None:
    assert messages.promotion_message(reason) == words


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (
            MeanTried((1, 2, 3), 2.4, 2.5, kept=True),
            "the mean of the states of rounds 1, 2 and 3: held-out loss 2.4000",
        ),
        (
            MeanTried((1, 2), 2.5, 2.5, kept=False),
            "the mean of the states of rounds 1 and 2: held-out loss 2.5000, not lower than that of round 2:"
            " it is not kept",
        ),
        (
            MeanTried((1, 2), 2.4, 2.5, kept=False),
            "the mean of the states of rounds 1 and 2: held-out loss 2.4000, too far above the best one:"
            " it is not kept",
        ),
        (
            MeanFailed((1, 2), LossNotFinite("nan")),
            "the mean of the states of rounds 1 and 2 is not evaluated: its held-out loss is nan",
        ),
        (
            StateUnreadable(1, "model.safetensors"),
            "no mean of states is made: model.safetensors of the checkpoint of round 1 is damaged or missing."
            " A restart looks for a copy",
        ),
        (
            NoSpaceForMean((1, 2)),
            "no mean of the states of rounds 1 and 2 is made: the disk is full, and it takes the space of a"
            " checkpoint. The run continues without it",
        ),
    ],
)
def test_what_came_of_a_mean_is_said(reason: MeanOutcome, words: str) -> None:
    assert messages.mean_message(reason) == words
