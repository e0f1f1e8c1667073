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


@dataclass(frozen=True)
class WeightsNotFinite(Reason):
    """A tensor of the base model has NaN or infinite values."""

    tensor: str
    values: int
    """How many of its values."""


@dataclass(frozen=True)
class LossNotFinite(Reason):
    """The loss of the untrained model is NaN or infinite."""

    loss: str


@dataclass(frozen=True)
class NoGradient(Reason):
    """The loss does not depend on tensors that the run would train."""

    tensors: tuple[str, ...]
    """Their names in a checkpoint, at most `NAMED`."""
    count: int


@dataclass(frozen=True)
class FollowingTokensSeen(Reason):
    """A token's loss depends on the tokens after it: the model is no causal language model."""

    difference: float
    """In nats."""


@dataclass(frozen=True)
class PaddingSeen(Reason):
    """Padding behind a document changes the document's losses."""

    difference: float
    """In nats."""


@dataclass(frozen=True)
class DocumentsMixed(Reason):
    """Documents in one sample see each other, although the spec demands that they share samples."""

    difference: float
    """Of a token's loss, in nats."""


@dataclass(frozen=True)
class KernelUnsupported(Reason):
    """The model has no attention kernel of the name that the spec demands."""

    kernel: Kernel
    detail: str


@dataclass(frozen=True)
class PositionsExceeded(Reason):
    """The model has fewer positions than a sample has tokens."""

    sequence_length: int
    detail: str


@dataclass(frozen=True)
class StepFailed(Reason):
    """The model library raised an error."""

    doing: Literal["loading the model", "the forward pass", "attaching the adapter", "the backward pass"]
    detail: str
    """The first line of the error."""


@dataclass(frozen=True)
class ProgramFailed(Reason):
    """The program ended without a result."""

    detail: str


Fault = (
    WeightsNotFinite
    | LossNotFinite
    | NoGradient
    | FollowingTokensSeen
    | PaddingSeen
    | DocumentsMixed
    | KernelUnsupported
    | PositionsExceeded
    | StepFailed
    | ProgramFailed
)
"""Why no volunteer could train the run, on any machine."""
NAMED = 5
"""Tensors that a fault names at most."""


def rehearsal_message(outcome: Rehearsal) -> str:
    """What was tried, and what was not."""
    match outcome:
        case Rehearsed(loss=loss, tokens=tokens, seconds=seconds, peak=peak, untrained=untrained):
            idle = f"; {len(untrained)} tensors such as {untrained[0]} are not used" if untrained else ""
            step = f"one step in {seconds:.0f} s and {format_bytes(peak)} of memory"
            return f"{step}: loss {loss:.2f} on {tokens} tokens{idle}"
        case NotRehearsed(obstacle):
            return (
                f"not rehearsed: {obstacle_message(obstacle)}. No forward and backward pass was"
                " completed: the first volunteer tries one"
            )
        case _:
            assert_never(outcome)


def structure_message(outcome: Rehearsal) -> str:
    """How the run uses its model."""
    by = "" if isinstance(outcome, Rehearsed) else ", by the kind of the model"
    packing = "documents share samples" if outcome.packed else "one document in a sample"
    return f"{outcome.attention}, {packing}{by}"


def fault_message(fault: Fault) -> str:
    """What is wrong with the run."""
    match fault:
        case WeightsNotFinite(tensor, values):
            return f"{values:,} values of the base model's {tensor} are NaN or infinite"
        case LossNotFinite(loss):
            return f"the loss of the untrained model on the run's data is {loss}"
        case NoGradient(tensors, count):
            more = f" and {count - len(tensors)} more" if count > len(tensors) else ""
            return f"no gradient reaches {', '.join(tensors)}{more}: the loss does not depend on them"
        case FollowingTokensSeen() | PaddingSeen() | DocumentsMixed():
            return _dependence_message(fault)
        case KernelUnsupported(kernel, detail):
            return f'model.attention is "{kernel}", which this kind of model does not have: {detail}'
        case PositionsExceeded(length, detail):
            return f"data.sequence_length is {length}, and the model has no position {length - 1}: {detail}"
        case StepFailed(doing, detail):
            return f"{doing} fails: {detail}"
        case ProgramFailed(detail):
            return f"the rehearsal ended without a result: {detail}"
        case _:
            assert_never(fault)


def _dependence_message(fault: FollowingTokensSeen | PaddingSeen | DocumentsMixed) -> str:
    match fault:
        case FollowingTokensSeen(difference):
            return (
                "the model sees the tokens that it should predict: the loss of a token changes by"
                f" {difference:.2g} nats with the tokens after it, so it is no causal language model"
            )
        case PaddingSeen(difference):
            return f"padding behind a document changes the document's losses by {difference:.2g} nats"
        case DocumentsMixed(difference):
            return (
                'data.packing is "always", but documents in one sample see each other in this kind of model:'
                f" a token's loss changes by {difference:.2g} nats"
            )
        case _:
            assert_never(fault)


def fault_fix(fault: Fault) -> str:
    """What the maintainer can do about it."""
    match fault:
        case WeightsNotFinite():
            return "Get the model's files again, or use another base model."
        case LossNotFinite():
            return "Use another base model: its products exceed the range of numbers."
        case NoGradient():
            return "Leave these layers out of `modules` under [train.target]; name the others in full."
        case FollowingTokensSeen() | PaddingSeen():
            return "Set `source` under [model] to a causal language model."
        case DocumentsMixed():
            return 'Set `packing` under [data] to "auto" or "never".'
        case KernelUnsupported():
            return 'Leave `attention` out of [model], or set it to "auto".'
        case PositionsExceeded():
            return "Lower `sequence_length` under [data] to the model's context."
        case StepFailed() | ProgramFailed():
            return "Use another base model; transformers cannot train this one as the run asks."
        case _:
            assert_never(fault)


def obstacle_message(obstacle: Obstacle) -> str:
    """Why this machine did not rehearse."""
    match obstacle:
        case TooLittleMemory(needed, free):
            return f"it takes about {format_bytes(needed)} of memory, and may use {format_bytes(free)}"
        case MemoryExhausted(limit):
            return f"it took more than the {format_bytes(limit)} of memory that it may use"
        case TooSlow(seconds):
            return f"it took more than {seconds:.0f} s here"
        case _:
            assert_never(obstacle)
