"""Local training of a tiny adapter, and the states that it is rebased onto."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from barnraise.contract.spec import CodecSpec, DataSpec, InnerSpec, Lora, RunSpec, Schedule, TrainSpec
from barnraise.contract.state import Array, TrainState
from barnraise.contract.tip import Position, Tip
from barnraise.core.ids import BlobHash, Round
from barnraise.fold.codec import Decoder
from barnraise.models.trainable import initial_state
from peer.training.trainer import Trainer
from peer.volunteer.contribution_state import ContributionEvent, ContributionLifecycle, ContributionState
from peer.volunteer.local_training import LocalTraining
from tests.support import parts
from tests.support.devices import CPU
from tests.support.tiny import tiny_samples

Method = Literal["diloco", "gradient"]
TARGET = Lora(rank=2, alpha=4.0, modules=("q_proj", "v_proj"))
INNER = InnerSpec(lr=1e-2, weight_decay=0.1)
MARGIN = 1e-6
"""fp32 rounding of values around 0.1, over a handful of additions."""


def training_of(folder: Path, method: Method = "diloco", schedule: Schedule | None = None) -> LocalTraining:
    """A volunteer at the start of round 0."""
    spec = run_spec(method)
    if schedule is not None:
        train = spec.train.model_copy(update={"schedule": schedule})
        spec = spec.model_copy(update={"train": train})
    trainer = Trainer(folder, spec, CPU, micro_batch=4)
    start = initial_state(folder, TARGET, 0)
    trainer.load(start)
    return LocalTraining(trainer, ContributionLifecycle(), tip(start), start)


def run_spec(method: Method = "diloco", codec: CodecSpec | None = None) -> RunSpec:
    train = TrainSpec(method=method, target=TARGET, inner=INNER)
    return RunSpec(name=parts.RUN, data=DataSpec(source="x"), train=train, codec=codec or parts.CODECS[0])


def tip(state: TrainState) -> Tip:
    return Tip(Position(Round(state.step), BlobHash(parts.HASH_A)), state.hash())


def folded(training: LocalTraining, seed: int = 5) -> TrainState:
    """A next state, moved by other contributions."""
    state = training.state
    moves = parts.tensors(seed, state.layout, scale=0.01)
    return TrainState({name: state.params[name] + moves[name] for name in moves}, {}, state.step + 1)


def step(training: LocalTraining, seed: int) -> int:
    tokens = training.step(tiny_samples(2, seed=seed))
    assert isinstance(tokens, int)
    return tokens


def settle(training: LocalTraining, event: ContributionEvent) -> None:
    """The contribution that was taken is signed, and its close is known."""
    if training.lifecycle.state is ContributionState.TAKEN:
        training.lifecycle.advance(ContributionEvent.SIGN)
        training.lifecycle.advance(event)


def rebase(training: LocalTraining, missed: Decoder | None = None) -> TrainState:
    after = folded(training)
    settle(training, ContributionEvent.LIST if missed is None else ContributionEvent.MISS)
    training.rebase(tip(after), after, missed)
    return after


def moves(tensors: dict[str, Array]) -> bool:
    return any(bool((np.abs(array) > 1e-3).any()) for array in tensors.values())
