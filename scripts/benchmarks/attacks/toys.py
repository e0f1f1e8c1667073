"""What `scripts/bench attacks` trains: a model, its text and its start; and the smallest one, in numpy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from barnraise.contract.shards import Sample
from barnraise.contract.spec import RunSpec
from barnraise.contract.state import Array, TrainState

Batches = Sequence[Sequence[Sequence[Sample]]]
"""[peer][step]: a batch."""
Tensors = dict[str, Array]

LENGTH = 64
BATCH = 8
"""Samples of one inner step."""


@dataclass(frozen=True)
class Trained:
    """What a peer trained."""

    tensors: Tensors
    tokens: int


class Learner(Protocol):
    """One machine's model and optimizer."""

    def load(self, state: TrainState) -> None:
        """Continue from a state, with the optimizer's moments as they are."""
        ...

    def step(self, samples: Sequence[Sample]) -> None:
        """One inner step."""
        ...

    def take(self, state: TrainState) -> Trained:
        """The update since `state`, which a fold subtracts from it."""
        ...

    def losses(self, samples: Sequence[Sample]) -> Array:
        """Mean loss of each sample, in nats a byte."""
        ...


class Toy(Protocol):
    """A model, its text, and where all runs start."""

    def first(self, seed: int) -> TrainState:
        """The state of round 0."""
        ...

    def learner(self, spec: RunSpec) -> Learner:
        """A new machine."""
        ...

    def batches(self, peers: int, steps: int, seed: int) -> Batches:
        """Text of its own for each peer."""
        ...

    @property
    def held_out(self) -> Sequence[Sample]:
        """What nobody trains on; the first half is the auditor's."""
        ...


class BigramLearner:
    """Softmax of (embedding of the byte before) · output + bias, by Adam, in numpy."""

    def __init__(self, lr: float = 0.02) -> None:
        self._lr, self._steps, self._tokens = lr, 0, 0
        self._params: Tensors = {}
        self._moments: dict[str, tuple[Array, Array]] = {}

    def load(self, state: TrainState) -> None:
        self._params = {name: array.copy() for name, array in state.params.items()}

    def step(self, samples: Sequence[Sample]) -> None:
        before, after = _pairs(samples)
        self._tokens += before.size
        self._steps += 1
        for name, gradient in self._gradients(before, after).items():
            self._move(name, gradient)

    def take(self, state: TrainState) -> Trained:
        found = Trained(
            {name: state.params[name] - array for name, array in self._params.items()}, self._tokens
        )
        self._tokens = 0
        return found

    def losses(self, samples: Sequence[Sample]) -> Array:
        before, after = _pairs(samples)
        with np.errstate(all="ignore"):
            chosen = self._shares(before)[np.arange(before.size), after]
            found: Array = -np.log(np.maximum(chosen, 1e-30)).reshape(len(samples), -1).mean(axis=1)
        return found

    def _shares(self, before: np.ndarray) -> Array:
        """[n, 256]: the probability of each byte."""
        logits = self._params["embedding"][before] @ self._params["output"] + self._params["bias"]
        logits -= logits.max(axis=1, keepdims=True)
        found: Array = np.exp(logits)
        found /= found.sum(axis=1, keepdims=True)
        return found

    def _gradients(self, before: np.ndarray, after: np.ndarray) -> Tensors:
        error = self._shares(before)
        error[np.arange(before.size), after] -= 1
        error /= np.float32(before.size)
        hidden = self._params["embedding"][before]
        embedding = np.zeros_like(self._params["embedding"])
        np.add.at(embedding, before, error @ self._params["output"].T)
        return {"embedding": embedding, "output": hidden.T @ error, "bias": error.sum(axis=0)}

    def _move(self, name: str, gradient: Array) -> None:
        if name not in self._moments:
            self._moments[name] = np.zeros_like(gradient), np.zeros_like(gradient)
        mean, square = self._moments[name]
        mean += np.float32(0.1) * (gradient - mean)
        square += np.float32(0.001) * (np.square(gradient) - square)
        rate = self._lr * (1 - 0.999**self._steps) ** 0.5 / (1 - 0.9**self._steps)
        self._params[name] -= np.float32(rate) * mean / (np.sqrt(square) + np.float32(1e-8))


def _pairs(samples: Sequence[Sample]) -> tuple[np.ndarray, np.ndarray]:
    """Each byte that is trained on, and the one before it."""
    before = np.concatenate([sample.input_ids[:-1] for sample in samples])
    after = np.concatenate([sample.labels[1:] for sample in samples])
    return before, after


@dataclass(frozen=True)
class Bigram:
    """A model of 12,500 values: a cell takes seconds."""

    width: int = 24

    def first(self, seed: int) -> TrainState:
        random = np.random.default_rng(seed)
        shapes = {"embedding": (256, self.width), "output": (self.width, 256)}
        params = {
            name: random.standard_normal(shape, dtype=np.float32) * np.float32(0.1)
            for name, shape in shapes.items()
        }
        return TrainState({**params, "bias": np.zeros(256, np.float32)})

    def learner(self, spec: RunSpec) -> BigramLearner:
        return BigramLearner()

    def batches(self, peers: int, steps: int, seed: int) -> Batches:
        random, text = np.random.default_rng(seed), self._samples[: -len(self.held_out)]
        order = random.permutation(len(text))
        return [
            [[text[i] for i in random.choice(order[peer::peers], BATCH)] for _ in range(steps)]
            for peer in range(peers)
        ]

    @cached_property
    def held_out(self) -> Sequence[Sample]:
        return self._samples[-256:]

    @cached_property
    def _samples(self) -> Sequence[Sample]:
        from pydoc_data.topics import topics

        text = np.frombuffer("\n\n".join(topics[name] for name in sorted(topics)).encode(), np.uint8)
        rows = text[: len(text) // LENGTH * LENGTH].reshape(-1, LENGTH).astype(np.int32)
        positions = np.arange(LENGTH, dtype=np.int32)
        found = [Sample(row, np.where(positions > 0, row, -100).astype(np.int32), positions) for row in rows]
        return [found[i] for i in np.random.default_rng(0).permutation(len(found))]
