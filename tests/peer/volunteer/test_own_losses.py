"""The hint that our contributions do not lower the loss of our own samples."""

from __future__ import annotations

from pathlib import Path

import pytest

from peer.volunteer.contribution_state import ContributionEvent
from peer.volunteer.local_training import STEPS_TO_COMPARE
from peer.volunteer.own_losses import LAST, OwnLosses, OwnLossNotLowered
from tests.support.tiny import make_tiny_model, tiny_samples
from tests.support.training import folded, settle, tip, training_of


def test_a_hint_comes_once_until_fewer_fail() -> None:
    losses, found = OwnLosses(), []
    for failed in (True, False, True, False, True, True, False, False, False, True, True, True):
        found.append(losses.compare(2.0, 2.1 if failed else 1.9))
    hints = [each for each in found if each is not None]
    assert hints == [OwnLossNotLowered(3, LAST), OwnLossNotLowered(3, LAST)]
    assert found.index(hints[0]) == 4


def test_a_loss_that_is_no_number_did_not_fall() -> None:
    losses = OwnLosses()
    assert [losses.compare(1.0, float("nan")) for _ in range(3)][-1] == OwnLossNotLowered(3, 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.mark.parametrize("sign", [1, -1])
def test_training_that_works_gets_no_hint_and_one_that_climbs_does(folder: Path, sign: int) -> None:
    training, hints = training_of(folder), list[OwnLossNotLowered]()
    training.hint = hints.append
    if sign < 0:
        for parameter in training.trainer._model.params.values():
            parameter.register_hook(lambda gradient: -gradient)
    for _ in range(3):
        for _ in range(STEPS_TO_COMPARE):
            training.step(tiny_samples(2, seed=1))
        training.take()
        settle(training, ContributionEvent.LIST)
        after = folded(training)
        training.rebase(tip(after), after)
    assert hints == ([] if sign > 0 else [OwnLossNotLowered(3, 3)])
