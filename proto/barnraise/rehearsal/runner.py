"""Runs the rehearsing program under a limit of time and memory."""

from __future__ import annotations

import asyncio
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from barnraise.contract.shards import pack_shard
from barnraise.contract.spec import RunSpec
from barnraise.core.errors import ModelUnusable
from barnraise.models.causal_lm import model_shape
from barnraise.models.memory_estimate import rehearsal_memory
from barnraise.models.trainable import layout
from barnraise.rehearsal.known_kinds import by_kind
from barnraise.rehearsal.outcomes import (
    Fault,
    MemoryExhausted,
    NotRehearsed,
    Obstacle,
    ProgramFailed,
    Rehearsal,
    Rehearsed,
    TooLittleMemory,
    TooSlow,
    fault_fix,
    fault_message,
)
from barnraise.rehearsal.replies import (
    ISOLATION_SHARD,
    REPLIES,
    REQUEST,
    STEP_SHARD,
    FaultReply,
    MemoryReply,
    Request,
    StepReply,
)
from barnraise.rehearsal.samples import RehearsalSamples
from barnraise.runtime.child_failures import ChildDied, ChildFailure, ChildTimedOut, ChildTooLarge
from barnraise.runtime.child_process import ChildDone, run_child
from barnraise.runtime.memory import available_memory

PROGRAM = "barnraise.rehearsal.program"
"""The module that rehearses."""
_KILLED = -9
"""Status of a program that the system ended, as Linux does where memory runs out."""


@dataclass(frozen=True)
class Limits:
    """What a rehearsal may take."""

    seconds: float = 120.0
    """SmolLM2-135M takes about 20 s on two cores, most of it loading libraries; nobody should wait for
    minutes for what the first volunteer tries anyway."""
    memory: int | None = None
    """Bytes; None: what is free on this machine."""

    def free(self) -> int:
        """Bytes that a rehearsal may take now."""
        available = available_memory()
        return available if self.memory is None else min(self.memory, available)


LIMITS = Limits()


def rehearse(spec: RunSpec, folder: Path, samples: RehearsalSamples, limits: Limits = LIMITS) -> Rehearsal:
    """Take one step with the base model in `folder`, in a child program.

    Raises ModelUnusable for a run that no volunteer could train. Must not run in an event loop.
    """
    free = limits.free()
    needed = rehearsal_memory(
        model_shape(folder),
        layout(folder, spec.train.target).parameters,
        spec.train.target,
        tokens=len(samples.step.input_ids),
    )
    if needed > free:
        return _not_rehearsed(TooLittleMemory(needed, free), spec, folder)
    begun = time.monotonic()
    ended = asyncio.run(_run(spec, folder, samples, limits.seconds, free))
    match _outcome(ended, free):
        case StepReply() as reply:
            return Rehearsed(
                attention=reply.attention,
                packed=reply.packed,
                loss=reply.loss,
                tokens=reply.tokens,
                seconds=time.monotonic() - begun,
                peak=reply.peak,
                untrained=reply.untrained,
            )
        case TooLittleMemory() | MemoryExhausted() | TooSlow() as obstacle:
            return _not_rehearsed(obstacle, spec, folder)
        case fault:
            raise ModelUnusable(fault_message(fault), fix=fault_fix(fault))


async def _run(
    spec: RunSpec, folder: Path, samples: RehearsalSamples, seconds: float, memory: int
) -> ChildDone | ChildFailure:
    request = Request(
        target=spec.train.target,
        attention=spec.model.attention,
        packing=spec.data.packing,
        sequence_length=spec.data.sequence_length,
        isolation_length=len(samples.isolation.input_ids),
        step_length=len(samples.step.input_ids),
    )
    with tempfile.TemporaryDirectory(prefix="barnraise-") as name:
        work = Path(name)
        (work / REQUEST).write_text(request.model_dump_json())
        (work / ISOLATION_SHARD).write_bytes(pack_shard([samples.isolation]))
        (work / STEP_SHARD).write_bytes(pack_shard([samples.step]))
        return await run_child(PROGRAM, folder, work, timeout=seconds, memory=memory)


def _outcome(ended: ChildDone | ChildFailure, free: int) -> StepReply | Obstacle | Fault:
    match ended:
        case ChildTimedOut(seconds):
            return TooSlow(seconds)
        case ChildTooLarge(limit):
            return MemoryExhausted(limit)
        case ChildDied(status=status) if status == _KILLED:
            return MemoryExhausted(free)
        case ChildDied(last_line=line):
            return ProgramFailed(line)
        case ChildDone(line):
            return _read_reply(line, free)


def _read_reply(line: str, free: int) -> StepReply | Obstacle | Fault:
    try:
        match REPLIES.validate_json(line):
            case StepReply() as reply:
                return reply
            case MemoryReply():
                return MemoryExhausted(free)
            case FaultReply() as reply:
                return reply.read()
    except (ValidationError, KeyError):
        return ProgramFailed(line[:100])


def _not_rehearsed(obstacle: Obstacle, spec: RunSpec, folder: Path) -> NotRehearsed:
    known = by_kind(folder)
    attention, packing = spec.model.attention, spec.data.packing
    return NotRehearsed(
        obstacle,
        attention=known.attention if attention == "auto" else attention,
        packed=known.packed if packing == "auto" else packing == "always",
    )
