"""Runs the auditing program. A failure is an outcome: a run goes on without the audit."""

from __future__ import annotations

from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from barnraise.evaluation.audit_job import AuditJob, AuditReply
from barnraise.evaluation.failures import EvaluationFailure, NotEnoughMemory, UnreadableReply
from barnraise.evaluation.runner import MemoryReply
from barnraise.runtime.child_process import ChildDone, run_child

PROGRAM = "barnraise.evaluation.audit_program"

_REPLIES: TypeAdapter[AuditReply | MemoryReply] = TypeAdapter(AuditReply | MemoryReply)


async def run_audit(job: AuditJob, folder: Path) -> AuditReply | EvaluationFailure:
    """folder: for the job's file."""
    file = folder / "job.json"
    file.write_text(job.model_dump_json(), encoding="utf-8")
    ended = await run_child(PROGRAM, file)
    if not isinstance(ended, ChildDone):
        return ended
    try:
        reply = _REPLIES.validate_json(ended.last_line)
    except ValidationError:
        return UnreadableReply(ended.last_line)
    return NotEnoughMemory(reply.needed_bytes, reply.free_bytes) if isinstance(reply, MemoryReply) else reply
