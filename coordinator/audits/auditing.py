"""Audits rounds while the run goes on: one at a time, always the newest that was closed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from barnraise.contract.audit_report import AuditReport, AuditResult
from barnraise.contract.log_entries import StandingChange
from barnraise.contract.state import TrainState
from barnraise.core.ids import BlobHash, Millis
from barnraise.core.signed import sign
from barnraise.evaluation.audit_job import AuditJob, AuditReply
from barnraise.evaluation.audit_runner import run_audit
from barnraise.evaluation.failures import EvaluationFailure
from barnraise.fold.log import Link
from barnraise.runtime.files import scratch_folder
from coordinator.audits.choose import Budget
from coordinator.audits.ledger import Ledger
from coordinator.audits.ledger_file import LedgerFile
from coordinator.audits.preparing import ClosedRound, prepare, standings_of
from coordinator.audits.verdicts import changes, decide
from coordinator.messages.audits import audited_message, not_audited_message
from coordinator.reasons.audits import NotAudited
from coordinator.run_folder import AUDITS
from coordinator.store.next_entry import ordered, standing_change_of
from coordinator.store.run_store import RunStore

log = logging.getLogger("coordinator")

RunJob = Callable[[AuditJob, Path], Awaitable["AuditReply | EvaluationFailure"]]


@dataclass
class Auditing:
    """Of one coordinator. The session calls `closed` and `entry`; `run` works in parallel."""

    store: RunStore
    clock: Callable[[], Millis]
    run_job: RunJob = run_audit
    ledger: Ledger = field(default_factory=Ledger)
    _budget: Budget = field(default_factory=Budget)
    _next: ClosedRound | None = None
    _new: asyncio.Event = field(default_factory=asyncio.Event)
    _reported: NotAudited | EvaluationFailure | None = None

    def closed(self, link: Link, state: TrainState, seen: Mapping[BlobHash, Millis]) -> None:
        """A round closes: it is audited next, in place of one that waits. state: before its fold."""
        self._budget = self._budget.after([commit.samples for commit in link.commits])
        self._next = ClosedRound(link, state, seen)
        self._new.set()

    def entry(self, now: Millis) -> StandingChange | None:
        """The changes of standings that audits ask for, where an entry may follow now."""
        run = self.store.snapshot
        if not run.may_be_amended:
            return None
        standings = standings_of(run, tuple(self.ledger.by_key))
        self.ledger = self.ledger.current(standings)
        found = changes(
            decide(self.ledger, standings, run.spec.trust),
            lambda key: self.ledger.of(key, standings[key]),
            run.charter.run,
            self.store.authority,
            now,
        )
        if not found:
            return None
        entry = standing_change_of(run, found, (), now)
        return ordered(entry, run, self.store.authority)

    async def run(self) -> None:
        """Audit closed rounds until cancelled. Raises DiskFull."""
        self.ledger = await asyncio.to_thread(self._file.caught_up, self.store.snapshot)
        while True:
            await self._new.wait()
            self._new.clear()
            closed, self._next = self._next, None
            if closed is not None:
                await self._audit(closed)

    @property
    def _file(self) -> LedgerFile:
        return LedgerFile(self.store.folder / AUDITS)

    async def _audit(self, closed: ClosedRound) -> None:
        round = closed.link.close.round
        with scratch_folder(self.store.folder) as work:
            job = await asyncio.to_thread(
                prepare, closed, self.store, self.ledger, self._budget, self._file, work
            )
            reply = await self._tried(job, work) if isinstance(job, AuditJob) else job
        if not isinstance(reply, AuditReply):
            self._report(round, reply)
            return
        await self._record(closed, reply)

    async def _tried(self, job: AuditJob, work: Path) -> AuditReply | EvaluationFailure:
        reply = await self.run_job(job, work)
        fixed = reply.other_passes if isinstance(reply, AuditReply) else None
        self._budget = self._budget.without(job.forward_passes, fixed)
        return reply

    async def _record(self, closed: ClosedRound, reply: AuditReply) -> None:
        close = closed.link.close
        report = AuditReport(
            run=close.run,
            round=close.round,
            base_state=close.base_state,
            owner=self.store.authority.public,
            results=tuple(AuditResult.model_validate(dict(each)) for each in reply.results),
            at=self.clock(),
        )
        ledger = self.ledger.after(report, standings_of(self.store.snapshot, closed.owners))
        await asyncio.to_thread(self._file.save, ledger, sign(self.store.authority, report))
        self.ledger = ledger
        log.info("round %d audited: %s", close.round, audited_message(report, reply.seconds))

    def _report(self, round: int, reason: NotAudited | EvaluationFailure) -> None:
        """Log why a round is not audited, where that is news."""
        if reason.is_news_after(self._reported):
            self._reported = reason
            log.info("round %d is not audited: %s", round, not_audited_message(reason))
