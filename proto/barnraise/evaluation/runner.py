"""The held-out loss of a checkpoint, computed by a child program while the run continues."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from barnraise.contract.archive import HELD_OUT_INDEX
from barnraise.contract.manifest import HeldOut
from barnraise.contract.shards import DataIndex
from barnraise.core.strict import Strict
from barnraise.evaluation.failures import (
    PROGRAM,
    EvaluationDisabled,
    EvaluationFailure,
    LossNotFinite,
    NoHeldOutText,
    NotEnoughMemory,
    UnreadableReply,
)
from barnraise.models.causal_lm import Attention
from barnraise.runtime.child_process import ChildDone, run_child


@dataclass(frozen=True)
class Evaluated:
    """The checkpoint has a held-out loss."""

    held_out: HeldOut


class LossReply(Strict):
    """What the program prints when it found a loss."""

    loss: float
    """Nats per held-out token."""
    tokens: int


class MemoryReply(Strict):
    """What the program prints when the model would not fit into memory."""

    needed_bytes: int
    free_bytes: int


class NotFiniteReply(Strict):
    """What the program prints when the loss is NaN or infinity, which JSON cannot express."""

    not_finite: str


_REPLIES: TypeAdapter[LossReply | MemoryReply | NotFiniteReply] = TypeAdapter(
    LossReply | MemoryReply | NotFiniteReply
)


async def evaluate_checkpoint(
    folder: Path, *, base: Path, held_out: Path, tokens: int, attention: Attention = "auto"
) -> Evaluated | EvaluationFailure:
    """Evaluate the checkpoint in `folder` on about `tokens` held-out tokens, always the same ones.

    Takes half of this machine's cores. A failure is an outcome, since a run continues without the loss.
    """
    if not tokens:
        return EvaluationDisabled()
    if not DataIndex.from_bytes((held_out / HELD_OUT_INDEX).read_bytes()).shards:
        return NoHeldOutText()
    threads = max(1, (os.cpu_count() or 1) // 2)
    ended = await run_child(
        PROGRAM, base, held_out, "--checkpoint", folder, "--tokens", tokens, "--threads", threads,
        "--attention", attention,
    )  # fmt: skip
    return read_reply(ended.last_line) if isinstance(ended, ChildDone) else ended


def read_reply(line: str) -> Evaluated | EvaluationFailure:
    """The outcome in the program's last line of output."""
    try:
        match _REPLIES.validate_json(line):
            case LossReply(loss=loss, tokens=tokens):
                return Evaluated(HeldOut(loss=loss, tokens=tokens))
            case MemoryReply(needed_bytes=needed, free_bytes=free):
                return NotEnoughMemory(needed, free)
            case NotFiniteReply(not_finite=loss_text):
                return LossNotFinite(loss_text)
    except ValidationError:
        return UnreadableReply(line)
