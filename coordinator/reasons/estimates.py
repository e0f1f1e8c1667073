"""What a run needs and how long it takes, by estimate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from barnraise.models.memory_estimate import Precision

Machine = Literal["laptop", "GPU"]


@dataclass(frozen=True)
class MemoryAt:
    """A volunteer's memory with frozen weights of one precision, at a micro-batch of one sample. In bytes."""

    precision: Precision
    laptop: int
    """Of a machine that trains on its CPU, or on an Apple GPU."""
    laptop_checkpointing: int
    """The same with activation checkpointing."""
    gpu: int
    """Of a GPU's own memory."""
    gpu_checkpointing: int
    gpu_host: int
    """Of the machine's memory next to that GPU."""


@dataclass(frozen=True)
class Needs:
    """What a run needs. In bytes, except where a field says otherwise."""

    base_params: int
    """Values in the base model."""
    trainable_params: int
    """Values that are trained."""
    memory: tuple[MemoryAt, ...]
    """Memory of a volunteer, by the precision of the frozen weights, the most exact one first."""
    coordinator_memory: int
    blob: int
    """One contribution; approximate for a sparse codec."""
    up: int
    """Sent per round and peer, approximately: its own blob once and those of others forwarded."""
    down: int
    """Received per round and peer, at most: the others' blobs."""
    checkpoint: int
    """The tensors of one checkpoint."""
    forms: int
    """One promoted checkpoint merged and as GGUF, where the spec asks for them."""
    log_per_round: int
    """Contributions and close of one round."""
    log: int
    """Contributions that are kept, at most."""
    checkpoints: int
    """How many are kept at most, means among them."""
    disk: int
    """Of the coordinator, at most: its checkpoints in all forms, and the log."""


@dataclass(frozen=True)
class Pace:
    """How fast volunteers with one kind of machine train, together except where a field says otherwise."""

    machine: Machine
    step: float
    """Seconds of one volunteer's step."""
    steps_an_epoch: float
    """Steps of one volunteer until all of them have seen the data once."""
    rounds: int
    """Rounds until the data was seen once."""
    epoch: float
    """Seconds until then."""
    round_epochs: float
    """Epochs that a round trains on."""
    tokens_a_day: float
    """Tokens of the data, repeated ones counted again."""

    @property
    def epochs_a_day(self) -> float:
        return 86_400 / self.epoch
