"""The training state: the trainable parameters and the outer optimizer's buffers, fp32 on the CPU."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from barnraise.core.errors import StateError
from barnraise.core.ids import StateHash

Array = npt.NDArray[np.float32]
Tensors = Mapping[str, Array]

_THREADS_FROM = 2**20
"""Bytes from which on several threads hash a state: to start them takes longer than to hash less."""


@dataclass(frozen=True)
class Layout:
    """Names and shapes of the trainable tensors, in the order that blobs and hashes use."""

    shapes: tuple[tuple[str, tuple[int, ...]], ...]

    @classmethod
    def of(cls, tensors: Tensors) -> Layout:
        return cls(tuple((name, tuple(array.shape)) for name, array in sorted(tensors.items())))

    def __iter__(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    @property
    def parameters(self) -> int:
        """Number of trainable values."""
        return sum(math.prod(shape) for _, shape in self.shapes)

    def digest(self) -> str:
        return hashlib.sha256(json.dumps(self.shapes).encode()).hexdigest()

    def check(self, tensors: Tensors, what: str) -> None:
        """Raise StateError unless `tensors` are exactly these names, shapes, and fp32."""
        found = {name: (tuple(array.shape), str(array.dtype)) for name, array in tensors.items()}
        expected = {name: (shape, "float32") for name, shape in self.shapes}
        if found != expected:
            wrong = sorted(set(found.items()) ^ set(expected.items()))[0]
            raise StateError(
                f"{what} does not have this run's tensors: first difference at {wrong[0]} {wrong[1]}",
                fix="Remove it; it is then fetched or made again.",
            )


@dataclass(frozen=True)
class TrainState:
    """state[r]. Treated as immutable: a fold returns a new one."""

    params: dict[str, Array]
    """Trainable tensors by name, fp32."""
    buffers: dict[str, dict[str, Array]] = field(default_factory=dict)
    """Outer optimizer buffers by kind (`momentum`; `m`, `v`), each shaped like the parameters."""
    step: int = 0
    """Outer steps taken: the number of rounds folded, without those that a rollback made void."""

    @property
    def layout(self) -> Layout:
        return Layout.of(self.params)

    def hash(self) -> StateHash:
        """SHA-256 of the state's index: the step and each tensor's own SHA-256, in layout order."""
        groups = [("params", self.params), *sorted(self.buffers.items())]
        named = [(f"{group}/{name}", tensors[name]) for group, tensors in groups for name in sorted(tensors)]
        digests = _tensor_digests([array for _, array in named])
        lines = ((name, array.shape, digest) for (name, array), digest in zip(named, digests, strict=True))
        return StateHash(hashlib.sha256(index_bytes(self.step, lines)).hexdigest())


def index_bytes(step: int, tensors: Iterable[tuple[str, Sequence[int], str]]) -> bytes:
    """The index of a state, whose SHA-256 is the state's hash (`barnraise.contract.state_index`).

    tensors: name (GROUP/NAME), shape and SHA-256 of each, in the order of `TrainState.hash`.
    """
    return json.dumps([step, [[name, list(shape), digest] for name, shape, digest in tensors]]).encode()


def _tensor_digests(arrays: list[Array]) -> list[str]:
    if sum(array.nbytes for array in arrays) < _THREADS_FROM:
        return [*map(tensor_digest, arrays)]
    with ThreadPoolExecutor() as pool:  # hashlib releases the interpreter lock
        return [*pool.map(tensor_digest, arrays)]


def tensor_digest(array: Array) -> str:
    """SHA-256 of a tensor's bytes."""
    canonical = np.ascontiguousarray(array, dtype="<f4")
    return hashlib.sha256(canonical.data).hexdigest()
