"""What the rehearsing program reads and prints."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, TypeAdapter

from barnraise.contract.spec import Full, Lora
from barnraise.core.strict import Strict
from barnraise.rehearsal.outcomes import Fault, Kernel

REQUEST, ISOLATION_SHARD, STEP_SHARD = "request.json", "isolation.shard", "step.shard"
"""Files of a request's folder: the request, and its two samples as shards of one."""

_FAULTS: dict[str, type[Any]] = {kind.__name__: kind for kind in get_args(Fault)}


class Request(Strict):
    """What to rehearse."""

    target: Annotated[Lora | Full, Field(discriminator="kind")]
    attention: Literal["auto", "sdpa", "eager"]
    packing: Literal["auto", "always", "never"]
    sequence_length: int
    """Of the run: the model must have as many positions."""
    isolation_length: int
    """Tokens of the sample that shows whether documents see each other."""
    step_length: int
    """Tokens of the sample of the forward and backward pass."""


class StepReply(Strict):
    """The step was taken: the fields of `Rehearsed` that the program knows."""

    attention: Kernel
    packed: bool
    loss: float
    tokens: int
    peak: int
    untrained: tuple[str, ...]


class MemoryReply(Strict):
    """An allocation failed."""

    exhausted: Literal[True]


class FaultReply(Strict):
    """The run cannot be trained."""

    fault: str
    """The name of a type of `Fault`."""
    fields: dict[str, Any]

    @classmethod
    def of(cls, fault: Fault) -> FaultReply:
        return cls(fault=type(fault).__name__, fields=dict(vars(fault)))

    def read(self) -> Fault:
        """Raises KeyError or ValidationError for a reply of another version."""
        kind = _FAULTS[self.fault]
        fault: Fault = TypeAdapter(kind).validate_python(self.fields)
        return fault


REPLIES: TypeAdapter[StepReply | MemoryReply | FaultReply] = TypeAdapter(StepReply | MemoryReply | FaultReply)
