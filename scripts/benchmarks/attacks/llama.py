"""The toy of `scripts/bench convergence` for `scripts/bench attacks`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from barnraise.contract.shards import Sample
from barnraise.contract.spec import RunSpec
from barnraise.contract.state import Array, TrainState
from barnraise.models.trainable import initial_state
from peer.training.trainer import Trainer
from scripts.benchmarks.arms.arms import FULL
from scripts.benchmarks.arms.training import CPU
from scripts.benchmarks.attacks.toys import BATCH, Batches, Trained
from scripts.benchmarks.convergence.workload import (
    Corpus,
    common_start,
    held_out_samples,
    peers_batches,
    read_text,
)


@dataclass(frozen=True)
class LlamaLearner:
    """A trainer."""

    trainer: Trainer

    def load(self, state: TrainState) -> None:
        self.trainer.load(state)

    def step(self, samples: Sequence[Sample]) -> None:
        self.trainer.step(samples)

    def take(self, state: TrainState) -> Trained:
        update = self.trainer.take_update(state)
        return Trained(update.tensors, update.tokens)

    def losses(self, samples: Sequence[Sample]) -> Array:
        return np.array([self.trainer.evaluate([sample]).loss for sample in samples], np.float32)


@dataclass(frozen=True)
class Llama:
    """0.39M parameters that learned prose, on code. Its start is made once, in `cache`."""

    cache: Path

    @cached_property
    def _text(self) -> Corpus:
        return read_text()

    @cached_property
    def _start(self) -> Path:
        return common_start(self._text, self.cache)

    def first(self, seed: int) -> TrainState:
        return initial_state(self._start, FULL, seed)

    def learner(self, spec: RunSpec) -> LlamaLearner:
        return LlamaLearner(Trainer(self._start, spec, CPU, micro_batch=BATCH))

    def batches(self, peers: int, steps: int, seed: int) -> Batches:
        return peers_batches(self._text, peers, steps, seed)

    @cached_property
    def held_out(self) -> Sequence[Sample]:
        return held_out_samples(self._text)
