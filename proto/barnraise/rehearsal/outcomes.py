"""What a rehearsal found out, and these outcomes in words for both programs. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from typing_extensions import assert_never

from barnraise.core.reason import Reason
from barnraise.core.units import format_bytes

Kernel = Literal["sdpa", "eager"]
"""Attention kernel of transformers."""


@dataclass(frozen=True)
class Rehearsed(Reason):
    """The model took one step on a packed sample of the run's data."""

    attention: Kernel
    """The kernel that the run uses."""
    packed: bool
    """Documents that share a sample do not see each other."""
    loss: float
    """Nats per trained token of the sample."""
    tokens: int
    """Trained tokens of the sample."""
    seconds: float
    """Duration, with loading the model."""
    peak: int
    """Bytes of memory that the program used at most."""
    untrained: tuple[str, ...] = ()
    """Trainable tensors that the loss does not depend on, where all parameters are trained."""


@dataclass(frozen=True)
class TooLittleMemory(Reason):
    """The model does not fit into the free memory, so nothing was tried."""

    needed: int
    """Bytes, estimated."""
    free: int
    """Bytes."""


@dataclass(frozen=True)
class MemoryExhausted(Reason):
    """The rehearsal took more memory than was free, and was ended."""

    limit: int
    """Bytes."""


@dataclass(frozen=True)
class TooSlow(Reason):
    """The rehearsal took too long, and was ended."""

    seconds: float


Obstacle = TooLittleMemory | MemoryExhausted | TooSlow
"""Why this machine cannot rehearse a run that may be right."""


@dataclass(frozen=True)
class NotRehearsed(Reason):
    """This machine cannot rehearse the run: the first volunteer does."""

    obstacle: Obstacle
    attention: Kernel
    """The kernel that the run uses, by its model's kind."""
    packed: bool
    """Whether documents share samples, by the model's kind."""


Rehearsal = Rehearsed | NotRehearsed


def rehearsal_message(outcome: Rehearsal) -> str:
    """What was tried, and what was not."""
    match outcome:
        case Rehearsed(attention, packed, loss, tokens, seconds, peak, untrained):
            packing = "packed documents" if packed else "one document in a sample"
            idle = f"; {len(untrained)} tensors such as {untrained[0]} are not used" if untrained else ""
            return (
                f"one step in {seconds:.0f} s and {format_bytes(peak)} of memory: loss {loss:.2f} on"
                f" {tokens} tokens, {attention} attention, {packing}{idle}"
            )
        case NotRehearsed(obstacle, attention, packed):
            packing = "packed documents" if packed else "one document in a sample"
            return (
                f"not rehearsed: {obstacle_message(obstacle)}. No forward and backward pass was tried; the"
                f" first volunteer tries it. By its kind, the model uses {attention} attention and {packing}"
            )
        case _:
            assert_never(outcome)


def obstacle_message(obstacle: Obstacle) -> str:
    """Why this machine did not rehearse."""
    match obstacle:
        case TooLittleMemory(needed, free):
            return f"it takes about {format_bytes(needed)} of memory, {format_bytes(free)} are free here"
        case MemoryExhausted(limit):
            return f"it took more than the {format_bytes(limit)} of memory that are free here"
        case TooSlow(seconds):
            return f"it took more than {seconds:.0f} s here"
        case _:
            assert_never(obstacle)
