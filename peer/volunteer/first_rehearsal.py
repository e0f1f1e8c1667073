"""The rehearsal of a run by its first volunteers, where the coordinator was too small or too slow for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from barnraise.contract.charter import Charter
from barnraise.contract.fault_report import MAX_PROBLEM, FaultReport
from barnraise.contract.invite import Invite
from barnraise.contract.records import Head
from barnraise.core.errors import InvalidRun
from barnraise.core.identity import Identity
from barnraise.core.ids import Millis, Round
from barnraise.core.signed import sign
from barnraise.rehearsal.isolation import Isolated
from barnraise.rehearsal.outcomes import Fault, fault_fix, fault_message
from barnraise.rehearsal.samples import RehearsalSamples
from peer.coordinator_client import ELSEWHERE, connect
from peer.timing import Timing
from peer.training.trainer import Trainer
from peer.volunteer.samples import Samples

log = logging.getLogger("peer")

_SAMPLES = 4
"""Samples among which one is chosen that trains something in its start."""


def must_rehearse(charter: Charter, head: Head) -> bool:
    """Whether no step is known to have succeeded: the coordinator completed none, and no round is closed."""
    return not charter.rehearsed and head.round == 0


async def rehearse_run(trainer: Trainer, samples: Samples) -> None:
    """Take one step and drop it. Raises InvalidRun for a run that cannot be trained, Unreachable."""
    log.info("the coordinator completed no step of this run: rehearsing one here")
    batch = await samples.batch(Round(0), 0, _SAMPLES)
    found = await asyncio.to_thread(trainer.rehearse, RehearsalSamples.of(batch))
    if not isinstance(found, Isolated):
        raise invalid_run(found)
    log.info("the rehearsal succeeded")


def invalid_run(fault: Fault) -> InvalidRun:
    """The error that ends a volunteer of a run with `fault`."""
    return InvalidRun(
        f"this run cannot be trained: {fault_message(fault)}",
        fix=f"Nothing on this machine helps. The run's maintainer can act: {fault_fix(fault)}",
    )


async def report_fault(
    invite: Invite,
    identity: Identity,
    device: str,
    error: InvalidRun,
    clock: Callable[[], Millis],
    timing: Timing,
) -> None:
    """Send `error` to the coordinator; a failure to do so is logged."""
    report = FaultReport(
        run=invite.run,
        owner=identity.public,
        device=device[:80],
        problem=error.problem[:MAX_PROBLEM],
        at=clock(),
    )
    try:
        async with connect(invite, timing) as api:
            await api.report_fault(sign(identity, report))
        log.info("reported to the run's maintainer")
    except ELSEWHERE as failed:
        log.warning("the maintainer was not informed: %s", failed.problem)
