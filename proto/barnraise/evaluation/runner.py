"""The held-out loss of a checkpoint, found beside the run in a program of its own."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from barnraise.contract.archive import HELD_OUT_INDEX
from barnraise.contract.manifest import HeldOut
from barnraise.contract.shards import DataIndex
from barnraise.core.strict import Strict
from barnraise.runtime.child_process import Ended, Failed, run_child

PROGRAM = "barnraise.evaluation.program"


@dataclass(frozen=True)
class Evaluated:
    held_out: HeldOut


@dataclass(frozen=True)
class NotEvaluated:
    reason: str


class _Reply(Strict):
    loss: float = 0.0
    tokens: int = 0
    reason: str = ""


async def evaluate(folder: Path, *, base: Path, held_out: Path, tokens: int) -> Evaluated | NotEvaluated:
    """Evaluate the checkpoint in `folder` on about `tokens` held-out tokens, always the same ones.

    Takes half of this machine's cores. What goes wrong is an outcome: a run goes on without.
    """
    if not tokens:
        return NotEvaluated("the run spec asks for no evaluation")
    if not DataIndex.from_bytes((held_out / HELD_OUT_INDEX).read_bytes()).shards:
        return NotEvaluated("the run holds no text out")
    threads = max(1, (os.cpu_count() or 1) // 2)
    ended = await run_child(
        PROGRAM, base, held_out, "--checkpoint", folder, "--tokens", tokens, "--threads", threads
    )
    match ended:
        case Failed(reason):
            return NotEvaluated(reason)
        case Ended(said):
            return _read(said)


def _read(said: str) -> Evaluated | NotEvaluated:
    try:
        reply = _Reply.model_validate_json(said)
        if reply.reason:
            return NotEvaluated(reply.reason)
        return Evaluated(HeldOut(loss=reply.loss, tokens=reply.tokens))
    except ValidationError:
        return NotEvaluated(f"{PROGRAM} said {said[:100]!r}")
