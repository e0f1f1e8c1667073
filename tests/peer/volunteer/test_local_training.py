"""Local training across rounds: its work is kept over every change of state and counted once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from barnraise.contract.sample_ranges import SampleRange
from barnraise.contract.shards import Sample
from barnraise.contract.spec import Raw, Schedule
from barnraise.contract.state import Array, TrainState
from barnraise.contract.tip import Tip
from barnraise.core.errors import NotFinite, StateError
from barnraise.core.ids import Round
from barnraise.fold.codec import Decoder, encode_in_place
from peer.training.trainer import StepResult, Update
from peer.volunteer.contribution_state import ContributionEvent
from peer.volunteer.local_training import LocalTraining
from peer.volunteer.reasons import StepSkipped
from tests.support import parts
from tests.support.tiny import make_tiny_model, tiny_samples
from tests.support.training import (
    MARGIN,
    Method,
    folded,
    moves,
    rebase,
    settle,
    step,
    tip,
    training_of,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def training(folder: Path) -> LocalTraining:
    return training_of(folder)


def ruled(after: TrainState, local: dict[str, Array], start: dict[str, Array]) -> dict[str, Array]:
    """after + (local − start), in the order that `LocalModel.shift` documents."""
    return {name: (local[name] - start[name]) + after.params[name] for name in local}


def same(found: dict[str, Array], expected: dict[str, Array]) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def near(found: dict[str, Array], expected: dict[str, Array]) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=0, atol=MARGIN, err_msg=name)


# Rebasing onto a new state


@pytest.mark.parametrize("method", ["diloco", "gradient"])
def test_without_steps_since_the_contribution_the_new_state_is_loaded_as_it_is(
    folder: Path, method: Method
) -> None:
    training = training_of(folder, method)
    step(training, 1)
    training.take()
    after = rebase(training)
    same(training.trainer.params(), after.params)
    assert (training.tip, training.state) == (tip(after), after)
    assert not training.lifecycle.taken


def test_steps_trained_ahead_are_kept(training: LocalTraining) -> None:
    step(training, 1)
    training.take()
    at_take = training.trainer.params()
    for seed in (2, 3, 4):
        step(training, seed)
    ahead = training.trainer.params()
    after = rebase(training)
    same(training.trainer.params(), ruled(after, ahead, at_take))
    assert moves({name: ahead[name] - at_take[name] for name in ahead})


def test_the_sent_update_is_not_kept(training: LocalTraining) -> None:
    """The folded state contains it."""
    step(training, 1)
    sent = training.take()
    step(training, 2)
    after = rebase(training)
    second = training.take()
    moved = {name: after.params[name] - array for name, array in training.trainer.params().items()}
    near(second.tensors, moved)
    whole = {name: sent.tensors[name] + second.tensors[name] for name in moved}
    assert moves({name: second.tensors[name] - whole[name] for name in whole})


def test_the_work_of_a_missed_round_is_kept_relative_to_its_state(training: LocalTraining) -> None:
    for seed in (1, 2):
        step(training, seed)
    start, local = training.state.params, training.trainer.params()
    after = rebase(training)
    same(training.trainer.params(), ruled(after, local, start))


def test_steps_trained_ahead_of_a_missed_round_are_kept(training: LocalTraining) -> None:
    step(training, 1)
    training.take()
    at_take = training.trainer.params()
    step(training, 2)
    first = training.trainer.params()
    after = rebase(training)
    step(training, 3)
    second, middle = training.trainer.params(), ruled(after, first, at_take)
    last = rebase(training)
    expected = ruled(last, second, after.params)
    same(training.trainer.params(), expected)
    whole = {name: first[name] - at_take[name] + second[name] - middle[name] for name in expected}
    near({name: expected[name] - last.params[name] for name in expected}, whole)


def test_the_inner_optimizer_keeps_its_moments(training: LocalTraining) -> None:
    step(training, 1)
    training.take()
    step(training, 2)
    before = {name: array.copy() for name, array in training.trainer.export_inner().items()}
    rebase(training)
    after = training.trainer.export_inner()
    assert before["steps"].tolist() == [2]
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_a_gradient_accumulated_ahead_counts_in_the_next_round(folder: Path) -> None:
    training, twin = training_of(folder, "gradient"), training_of(folder, "gradient")
    step(training, 1)
    training.take()
    step(training, 2)
    after = rebase(training)
    same(training.trainer.params(), after.params)
    step(twin, 2)
    expected, found = twin.take(), training.take()
    same(found.tensors, expected.tensors)
    assert (found.tokens, found.samples) == (expected.tokens, expected.samples)
    assert any(array.any() for array in found.tensors.values())


def test_a_state_of_other_tensors_is_refused(training: LocalTraining) -> None:
    step(training, 1)
    before, kept = training.trainer.params(), training.tip
    other = parts.state(step=1)
    with pytest.raises(StateError):
        training.rebase(tip(other), other)
    same(training.trainer.params(), before)
    assert training.tip == kept


# Counters


def test_tokens_samples_and_steps_are_counted_since_the_contribution(training: LocalTraining) -> None:
    trained = [step(training, seed) for seed in (1, 2, 3)]
    assert (training.tokens, training.steps, training.samples) == (sum(trained), 3, 6)
    assert not training.lifecycle.taken
    update = training.take()
    assert (update.tokens, update.samples) == (sum(trained), 6)
    assert update.ranges == (SampleRange(round=0, start=0, count=6),)
    assert (training.tokens, training.steps, training.samples) == (0, 0, 0)
    assert training.lifecycle.taken
    ahead = step(training, 4)
    assert (training.tokens, training.steps, training.samples) == (ahead, 1, 2)
    rebase(training)
    assert (training.tokens, training.steps, training.samples) == (ahead, 1, 2)
    later = step(training, 5)
    update = training.take()
    assert (update.tokens, update.samples) == (ahead + later, 4)
    assert update.ranges == (SampleRange(round=1, start=0, count=4),)


def test_a_share_of_the_work_names_its_samples_and_leaves_the_others(training: LocalTraining) -> None:
    trained = [step(training, seed) for seed in (1, 2, 3, 4)]
    first = training.take(sum(trained) // 2)
    rebase(training)
    step(training, 5)
    second = training.take()
    assert first.ranges == (SampleRange(round=0, start=0, count=first.samples),)
    left = 8 - first.samples
    assert 0 < first.samples < 8
    assert sum(each.count for each in second.ranges) == second.samples == left + 2
    assert second.ranges[0] == SampleRange(round=0, start=first.samples, count=left)


def test_work_that_is_dropped_names_no_samples(training: LocalTraining) -> None:
    step(training, seed=1)
    with torch.no_grad():
        next(iter(training.trainer._model.params.values())).fill_(float("nan"))
    with pytest.raises(NotFinite):
        training.take()
    step(training, 2)
    assert training.take().ranges == (SampleRange(round=0, start=2, count=2),)


def test_the_steps_of_a_missed_round_do_not_count_in_the_next(training: LocalTraining) -> None:
    trained = step(training, 1)
    rebase(training)
    assert (training.tokens, training.steps) == (trained, 0)
    trained += step(training, 2)
    assert training.take().tokens == trained


def test_the_loss_is_that_of_the_last_step(training: LocalTraining) -> None:
    batch = tiny_samples(2, seed=1)
    expected = training.trainer.evaluate(batch).loss
    training.step(batch)
    assert training.loss == pytest.approx(expected, rel=1e-5)


# Leaving


def test_the_rest_before_a_contribution_is_all_work_since_the_state(training: LocalTraining) -> None:
    step(training, 1)
    expected = {
        name: training.state.params[name] - array for name, array in training.trainer.params().items()
    }
    same(training.rest().tensors, expected)


def test_the_rest_after_a_contribution_is_the_work_since_it(training: LocalTraining) -> None:
    step(training, 1)
    training.take()
    at_take = training.trainer.params()
    ahead = step(training, 2)
    expected = {name: at_take[name] - array for name, array in training.trainer.params().items()}
    rest = training.rest()
    same(rest.tensors, expected)
    assert (rest.tokens, rest.samples) == (ahead, 2)
    assert moves(rest.tensors)


def sent(training: LocalTraining, update: Update) -> Decoder:
    """A lossless contribution, as other peers decode it."""
    layout = training.state.layout
    return Decoder(encode_in_place(Raw(), update.tensors, layout), Raw(), layout)


def test_a_missed_contribution_returns_to_the_parameters(training: LocalTraining) -> None:
    step(training, 1)
    missed = sent(training, training.take())
    after = rebase(training, missed)
    local = training.trainer.params()
    for name, array in local.items():
        np.testing.assert_allclose(after.params[name] - array, missed.tensor(name), rtol=0, atol=MARGIN)
    assert (training.tokens, training.has_work) == (0, True)


def test_a_missed_contribution_survives_rounds_without_a_step(training: LocalTraining) -> None:
    step(training, 1)
    missed = sent(training, training.take())
    rebase(training, missed)
    rebase(training)
    rest = training.rest()
    for name, array in rest.tensors.items():
        np.testing.assert_allclose(array, missed.tensor(name), rtol=0, atol=MARGIN)


def test_a_missed_contribution_is_added_to_the_steps_since(training: LocalTraining) -> None:
    step(training, 1)
    missed = sent(training, training.take())
    taken_at = training.trainer.params()
    step(training, 2)
    ahead = training.trainer.params()
    rebase(training, missed)
    again = training.take()
    for name, array in again.tensors.items():
        moved = taken_at[name] - ahead[name] + missed.tensor(name)
        np.testing.assert_allclose(array, moved, rtol=0, atol=MARGIN)
    assert not training.has_work


# Steps that are not finite


def test_five_skipped_steps_in_a_row_lead_back_to_the_run_s_state(training: LocalTraining) -> None:
    step(training, seed=1)
    parameter = next(iter(training.trainer._model.params.values()))
    hook = parameter.register_hook(lambda gradient: gradient * float("nan"))
    drawn = training.samples
    found = [training.step(tiny_samples(2)) for _ in range(10)]
    assert [skipped.skipped for skipped in found if isinstance(skipped, StepSkipped)] == [*range(1, 11)]
    resets = [skipped.resets for skipped in found if isinstance(skipped, StepSkipped)]
    assert resets == [0] * 4 + [1] * 5 + [2]
    assert training.tokens == 0
    assert training.samples == drawn + 20, "a batch that was skipped is not drawn again"
    same(training.trainer.params(), dict(training.state.params))
    hook.remove()
    assert isinstance(training.step(tiny_samples(2)), int)
    parameter.register_hook(lambda gradient: gradient * float("nan"))
    last = training.step(tiny_samples(2))
    assert isinstance(last, StepSkipped)
    assert last.resets == 0, "one good step ends the row"


def test_an_update_that_is_not_finite_is_not_taken(training: LocalTraining) -> None:
    step(training, seed=1)
    with torch.no_grad():
        next(iter(training.trainer._model.params.values())).fill_(float("nan"))
    with pytest.raises(NotFinite):
        training.take()
    assert not training.lifecycle.taken
    same(training.trainer.params(), dict(training.state.params))


def poisoned(training: LocalTraining) -> TrainState:
    """A next state whose losses are not finite."""
    params = {name: np.full_like(array, 1e30) for name, array in training.state.params.items()}
    return TrainState(params, {}, training.state.step + 1)


def fails(training: LocalTraining, times: int) -> list[StepSkipped]:
    found = [training.step(tiny_samples(2)) for _ in range(times)]
    return [skipped for skipped in found if isinstance(skipped, StepSkipped)]


def test_a_state_that_cannot_be_trained_is_blamed_and_the_last_good_one_is_taken(
    training: LocalTraining,
) -> None:
    step(training, 1)
    good = training.state
    training.take()
    settle(training, ContributionEvent.LIST)
    after = poisoned(training)
    training.rebase(tip(after), after)
    skipped = fails(training, 10)
    assert [each.good for each in skipped] == [None] * 9 + [0]
    same(training.trainer.params(), dict(good.params))
    step(training, 2)
    update = training.take()
    assert all(bool((array > 0.9e30).all()) for array in update.tensors.values()), "it leads back"
    settle(training, ContributionEvent.LIST)
    healed = folded(training)
    training.rebase(tip(healed), healed)
    same(training.trainer.params(), dict(healed.params))


def test_a_machine_that_fails_at_the_good_state_too_blames_no_state_for_long(
    training: LocalTraining,
) -> None:
    step(training, 1)
    training.take()
    rebase(training)
    next(iter(training.trainer._model.params.values())).register_hook(lambda each: each * float("nan"))
    found = [each.good for each in fails(training, 20)]
    assert found == [None] * 9 + [0] * 5 + [None] * 5 + [0]
    assert [each.resets for each in fails(training, 5)] == [4, 4, 4, 4, 5]


def test_without_an_earlier_state_that_worked_none_is_blamed(training: LocalTraining) -> None:
    after = poisoned(training)
    training.rebase(tip(after), after)
    assert [each.good for each in fails(training, 15)] == [None] * 15


@pytest.mark.parametrize("carrying", [False, True])
def test_a_rollback_drops_the_local_work_and_the_moments(folder: Path, carrying: bool) -> None:
    """carrying: a contribution missed its close, and steps were taken since."""
    training = training_of(folder)
    first = training.state
    rebase(training)
    step(training, 1)
    if carrying:
        training.take()
        step(training, 2)
        settle(training, ContributionEvent.MISS)
    assert training.trainer.export_inner()["steps"][0] > 0
    back = Tip(replace(tip(first).position, round=Round(2), void=((Round(0), Round(1)),)), first.hash())
    training.rebase(back, first)
    same(training.trainer.params(), first.params)
    assert training.trainer.export_inner()["steps"][0] == 0
    assert (training.tokens, training.steps, training.samples, training.round) == (0, 0, 0, 2)


# The schedule


def test_steps_have_the_factor_of_the_state_that_they_begin_from(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that are trained ahead, once the contribution is taken."""
    training = training_of(folder, schedule=Schedule(rounds=9, warmup_rounds=3, decay=0))
    factors: list[float] = []
    plain = training.trainer.step

    def recorded(samples: Sequence[Sample], factor: float = 1.0) -> StepResult:
        factors.append(factor)
        return plain(samples, factor)

    monkeypatch.setattr(training.trainer, "step", recorded)
    for _ in range(4):
        step(training, 1)
        training.take()
        step(training, 2)
        rebase(training)
    assert factors == [1 / 4, 1 / 4, 2 / 4, 2 / 4, 3 / 4, 3 / 4, 1, 1]


def test_a_step_at_a_factor_moves_less(folder: Path) -> None:
    moved = []
    for warmup in (0, 9):
        training = training_of(folder, schedule=Schedule(warmup_rounds=warmup))
        step(training, 1)
        update = training.take().tensors
        moved.append(max(float(np.abs(array).max()) for array in update.values()))
    assert moved[1] == pytest.approx(moved[0] / 10, rel=1e-3)
