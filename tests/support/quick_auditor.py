"""`coordinator` that audits every round of a tiny run at once, within its own process.

The auditing program takes seconds to start, in which a tiny model has several rounds.
"""

from __future__ import annotations

import asyncio
import functools
from pathlib import Path

from barnraise.evaluation.audit_job import AuditJob, AuditReply
from barnraise.evaluation.audit_program import audit
from coordinator import serve
from coordinator.audits import choose
from coordinator.audits.auditing import Auditing
from coordinator.cli.main import main as coordinator_main


async def audit_here(job: AuditJob, folder: Path) -> AuditReply:
    return await asyncio.to_thread(audit, job)


def main() -> None:
    choose.COMPUTE_SHARE = 1000.0
    setattr(serve, "Auditing", functools.partial(Auditing, run_job=audit_here))  # noqa: B010
    coordinator_main()
