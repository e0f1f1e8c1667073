"""Audits rounds while the run goes on: one at a time, always the newest that was closed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from barnraise.contract.audit_report import AuditReport, AuditResult
from barnraise.contract.audit_task import AuditAnswer, AuditCall, AuditTask, Disagreement, Refused, Taken
from barnraise.contract.log_entries import StandingChange
from barnraise.contract.standing import Level
from barnraise.contract.state import TrainState
from barnraise.core.ids import BlobHash, Millis, PublicKey
from barnraise.core.signed import Signed, sign
from barnraise.evaluation.audit_job import AuditJob, AuditReply
from barnraise.evaluation.audit_runner import run_audit
from barnraise.evaluation.failures import EvaluationFailure
from barnraise.fold.log import Link
from barnraise.runtime.files import scratch_folder
from coordinator.audits.auditors import Auditors, Record
from coordinator.audits.choose import Budget
from coordinator.audits.ledger import Ledger
from coordinator.audits.ledger_file import LedgerFile
from coordinator.audits.preparing import ClosedRound, prepare, standings_of
from coordinator.audits.trials import (
    Audited,
    disagreement,
    is_repeated,
    own_share,
    passes_of,
    task_of,
    together,
    with_trials_of,
)
from coordinator.audits.verdicts import changes, decide
from coordinator.messages.audits import audited_message, auditor_message, not_audited_message
from coordinator.reasons.audits import AuditorSilent, AuditorWrong, NotAudited
from coordinator.run_folder import AUDITS
from coordinator.store.next_entry import ordered, standing_change_of
from coordinator.store.run_store import RunStore
from coordinator.timing import TIMING, Timing

log = logging.getLogger("coordinator")

RunJob = Callable[[AuditJob, Path], Awaitable["AuditReply | EvaluationFailure"]]


@dataclass
class Auditing:
    """Of one coordinator. The session calls `closed` and `entry`; `run` works in parallel."""

    store: RunStore
    clock: Callable[[], Millis]
    run_job: RunJob = run_audit
    timing: Timing = TIMING
    ledger: Ledger = field(default_factory=Ledger)
    auditors: Auditors = field(init=False)
    budget: Budget = field(default_factory=Budget)
    _next: ClosedRound | None = None
    _new: asyncio.Event = field(default_factory=asyncio.Event)
    _reported: NotAudited | EvaluationFailure | None = None

    def __post_init__(self) -> None:
        self.auditors = Auditors(self.timing.audit_hold)

    def closed(self, link: Link, state: TrainState, seen: Mapping[BlobHash, Millis]) -> None:
        """A round closes: it is audited next, in place of one that waits. state: before its fold.

        What keys without weight say that they computed counts nothing: many could say that it is little.
        """
        target = self.store.snapshot.spec.train.target
        weighed = zip(link.commits, link.close.weights, strict=True)
        self.budget = self.budget.after([commit.samples for commit, weight in weighed if weight], target)
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
        with scratch_folder(self.store.folder) as work:
            job = await asyncio.to_thread(
                prepare, closed, self.store, self.ledger, self.budget, self._file, work
            )
            found = await self._audited(closed, job, work) if isinstance(job, AuditJob) else job
        if not isinstance(found, Audited):
            self._report(closed.link.close.round, found)
            return
        await self._record(closed, found)

    async def _audited(self, closed: ClosedRound, job: AuditJob, work: Path) -> Audited | EvaluationFailure:
        """By an auditor whose call waits, where there is one; else by this machine alone."""
        auditor = self.auditors.next(lambda key: self._refusal(key) is None)
        if auditor is not None:
            task = task_of(job, closed.base_state, closed.sizes, self._levels(closed), auditor)
            if task is not None:
                return await self._shared(closed, job, work, auditor, task, self.seconds())
        return await self._alone(job, work)

    def known_auditors(self) -> dict[PublicKey, tuple[Record, Disagreement | None]]:
        """What each auditor did, and why it is not asked any more, where it is not."""
        records, wrong = self.auditors.records, self.ledger.wrong
        return {key: (self.auditors.of(key), wrong.get(key)) for key in (*records, *wrong)}

    def seconds(self) -> float:
        """That an auditor has for a round."""
        return max(self.timing.audit, self.store.snapshot.spec.round.seconds)

    async def _alone(self, job: AuditJob, work: Path) -> Audited | EvaluationFailure:
        reply = await self._tried(job, work)
        return Audited(reply) if isinstance(reply, AuditReply) else reply

    async def _tried(self, job: AuditJob, work: Path) -> AuditReply | EvaluationFailure:
        reply = await self.run_job(job, work)
        fixed = reply.other_passes if isinstance(reply, AuditReply) and reply.forward_passes else None
        self.budget = self.budget.without(job.forward_passes, fixed)
        return reply

    async def _shared(
        self,
        closed: ClosedRound,
        job: AuditJob,
        work: Path,
        auditor: PublicKey,
        task: AuditTask,
        seconds: float,
    ) -> Audited | EvaluationFailure:
        """As `coordinator.audits.trials` says."""
        compared = await self._tried(with_trials_of(job, ()), work)
        if not isinstance(compared, AuditReply):
            return compared
        is_new = not self.auditors.of(auditor).answered
        call = await self.auditors.tried(auditor, task, seconds)
        self.budget = self.budget.without(passes_of(task))  # it computes for the run, too
        if call is None or call.value.report is None:
            log.warning("%s", auditor_message(AuditorSilent(auditor, task.round, seconds)))
            return await self._alone(job, work)
        report = call.value.report
        repeated = is_new or is_repeated(self._file.secret(), closed.link.hash, task.round)
        keys = own_share(job, report, compared, repeated=repeated)
        own = await self._tried(with_trials_of(job, keys), work) if keys else None
        if isinstance(own, AuditReply) and (wrong := disagreement(report, own.results)) is not None:
            await self._stop_asking(auditor, wrong)
            return await self._alone(job, work)
        mine = own if isinstance(own, AuditReply) else None
        return Audited(together(compared, report, mine, keys), call)

    async def _stop_asking(self, auditor: PublicKey, wrong: Disagreement) -> None:
        log.warning("%s", auditor_message(AuditorWrong(auditor, wrong)))
        ledger = self.ledger.without(auditor, wrong)
        await asyncio.to_thread(self._file.save_ledger, ledger)
        self.ledger = ledger

    async def answer(self, call: Signed[AuditCall]) -> Signed[AuditAnswer]:
        """What an auditor gets: it waits for a round for some seconds."""
        key, run = call.signer, self.store.snapshot
        wrong, refused = self.ledger.wrong.get(key), self._refusal(key)
        taken: Taken = "none"
        task = None
        if refused is None:
            taken, task = await self.auditors.call(call)
        answer = AuditAnswer(
            run=run.charter.run,
            owner=key,
            taken=taken,
            task=task,
            refused=refused,
            wrong=wrong,
            pause=self.timing.audit_refused if refused is not None else 0.0,
            at=self.clock(),
        )
        return sign(self.store.authority, answer)

    def _refusal(self, key: PublicKey) -> Refused | None:
        """Why a key may not audit now; None where it may."""
        if key in self.ledger.wrong:
            return "not asked any more"
        return None if self.store.snapshot.vouches_for(key) else "not vouched"

    def _levels(self, closed: ClosedRound) -> dict[PublicKey, Level]:
        return {key: each.level for key, each in standings_of(self.store.snapshot, closed.owners).items()}

    async def _record(self, closed: ClosedRound, found: Audited) -> None:
        close, reply = closed.link.close, found.reply
        report = AuditReport(
            run=close.run,
            round=close.round,
            base_state=close.base_state,
            owner=self.store.authority.public,
            auditor=None if found.call is None else found.call.signer,
            results=tuple(AuditResult.model_validate(dict(each)) for each in reply.results),
            at=self.clock(),
        )
        ledger = self.ledger.after(report, standings_of(self.store.snapshot, closed.owners))
        signed = sign(self.store.authority, report)
        await asyncio.to_thread(self._file.save, ledger, signed, found.call)
        self.ledger = ledger
        log.info("round %d audited: %s", close.round, audited_message(report, reply.seconds))

    def _report(self, round: int, reason: NotAudited | EvaluationFailure) -> None:
        """Log why a round is not audited, where that is news."""
        if reason.is_news_after(self._reported):
            self._reported = reason
            log.info("round %d is not audited: %s", round, not_audited_message(reason))
