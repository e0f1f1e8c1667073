"""What a coordinator answers to volunteers and to `coordinator status`: the gRPC service without gRPC.

The calls run in the event loop while other threads write to the run store: each reads one snapshot. A thread
waits for the disk.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from barnraise.contract.audit_task import AuditCall
from barnraise.contract.divergence import divergence_message
from barnraise.contract.fault_report import FaultReport
from barnraise.contract.invitation import invitation_id
from barnraise.contract.protocol import Misfit
from barnraise.contract.records import Evaluation, JoinClaim, seal
from barnraise.contract.rounds import seconds_between
from barnraise.contract.status import RunStatus
from barnraise.core.errors import RefusedError, Unreachable
from barnraise.core.ids import Millis, PublicKey, short
from barnraise.core.rates import Allowance, Rates
from barnraise.core.signed import Signed, sign
from coordinator.checkpoints.keeper import CheckpointKeeper
from coordinator.messages.checkpoints import evaluation_message, pending_message
from coordinator.messages.length import length_so_far
from coordinator.messages.rounds import claim_refusal, misfit_message, progress_message
from coordinator.reasons.entrance import Banned
from coordinator.reasons.rounds import ClaimReason
from coordinator.rounds.admission import Admitted, ClaimRefused, admit
from coordinator.rounds.entrance import barred, invitation_for
from coordinator.rounds.fault_reports import FaultReports, Kept, TooManyReports
from coordinator.rounds.session import Session
from coordinator.store.run_store import RunStore
from coordinator.timing import TIMING, Timing

log = logging.getLogger("coordinator")

MAX_REFUSED = 1024
"""Keys whose last refusal is remembered."""
STRANGERS_LOGGED = Allowance(burst=30, per_second=1 / 60)
"""Refusals of strangers: enough to see that there are many, too few to fill a log."""
MAX_MISFITS = 16
"""A version is what a stranger says: no more of them are logged."""


@dataclass(frozen=True)
class JoinResult:
    """What a volunteer needs to take part."""

    charter: bytes
    """The signed charter."""
    admission: bytes
    """The signed admission."""
    head: bytes
    """As of `CoordinatorApi.head`."""


@dataclass(frozen=True)
class CoordinatorApi:
    """One method for each call of the gRPC service. A closer answers for a coordinator that is away."""

    store: RunStore
    publisher: CheckpointKeeper
    session: Session
    clock: Callable[[], Millis]
    timing: Timing
    misfits: set[Misfit] = field(default_factory=set)
    """Versions of volunteers that were refused and logged."""
    faults: FaultReports = field(default_factory=lambda: FaultReports(TIMING.fault_reports))
    _joining: dict[PublicKey, str] = field(default_factory=dict)
    """The invitations by which keys are being admitted."""
    _strangers: Rates = field(default_factory=lambda: Rates(STRANGERS_LOGGED))
    """Refusals of keys that were never admitted."""
    _refused: dict[PublicKey, ClaimReason] = field(default_factory=dict)
    """The last refusal of each key since it was admitted."""

    def charter(self) -> bytes:
        """The signed charter."""
        run = self.store.snapshot
        return run.signed_charter.wire

    def head(self) -> bytes:
        """The sealed head (`barnraise.contract.records.seal`): its time is the run's clock."""
        return seal(self.store.authority, self.session.head())

    async def join(self, claim: Signed[JoinClaim]) -> JoinResult:
        """Admit a volunteer, or renew its admission.

        Raises RefusedError; Unreachable where nobody would take an admission from this program; DiskFull.
        """
        self._check_may_admit()
        now, charter, authority = self.clock(), self.store.charter, self.store.authority
        instances = self.session.instances
        in_use = instances.in_use(claim.value, now)
        run, present = self.store.snapshot, self.session.members.presences
        closed = barred(claim.value, run, present, now, self._joining)
        invitation = invitation_for(claim.value, run)
        match admit(claim.value, charter.run, now, self.timing, in_use, closed, invitation):
            case ClaimRefused(reason):
                refusal = claim_refusal(reason)
                self._report(claim, reason, refusal.problem)
                raise refusal
            case Admitted(admission):
                instances.admitted(claim.value, now)  # from now on another program is refused
                if run.has_news(claim):
                    await self._record(claim, now)
                self._refused.pop(claim.signer, None)
                log.info("admitted %s (%s)", self._who(claim), short(claim.signer))
                return JoinResult(self.charter(), sign(authority, admission).wire, self.head())

    async def _record(self, claim: Signed[JoinClaim], now: Millis) -> None:
        """Journal a claim. Its use of an invitation counts meanwhile: the disk is waited for."""
        self._joining[claim.signer] = invitation_id(claim.value.invitation)
        try:
            await asyncio.to_thread(self.store.admit, claim, now)
        finally:
            self._joining.pop(claim.signer, None)

    def knows(self, key: PublicKey) -> bool:
        """Whether a key was admitted before, or closes rounds."""
        run = self.store.snapshot
        return key in run.claims or key in run.position.named

    def _check_may_admit(self) -> None:
        if self.store.authority.public not in self.store.snapshot.signers:
            raise Unreachable(
                "this program follows the run and is none of its closers",
                fix="Ask the coordinator, or a closer.",
            )

    def _who(self, claim: Signed[JoinClaim]) -> str:
        run = self.store.snapshot
        return claim.value.name or ("a closer" if claim.signer in run.position.named else "a volunteer")

    def note_misfit(self, reason: Misfit) -> None:
        """A volunteer was refused for its version. Logged once for each version."""
        if reason not in self.misfits and len(self.misfits) < MAX_MISFITS:
            self.misfits.add(reason)
            log.warning("%s", misfit_message(reason))

    def _report(self, claim: Signed[JoinClaim], reason: ClaimReason, problem: str) -> None:
        """Log a refusal where it is news: claims are repeated, and keys cost nothing."""
        is_news = reason.is_news_after(self._refused.get(claim.signer))
        if is_news and (self.knows(claim.signer) or not self._strangers.take("", self.clock() / 1000)):
            log.warning("refused a claim of %s (%s): %s", self._who(claim), short(claim.signer), problem)
        if claim.signer in self._refused or len(self._refused) < MAX_REFUSED:
            self._refused[claim.signer] = reason

    def evaluate(self, evaluation: Signed[Evaluation]) -> str:
        """As `Publisher.record_evaluation`."""
        return evaluation_message(self.publisher.record_evaluation(evaluation))

    async def audit(self, call: Signed[AuditCall]) -> bytes:
        """The signed answer to an auditor. Raises RefusedError for another run's or an old call; Unreachable
        where this program audits nothing.
        """
        value, auditing = call.value, self.session.auditing
        if auditing is None:
            raise Unreachable("this program has no audits to give", fix="Ask the coordinator.")
        if value.run != self.store.charter.run:
            raise RefusedError("the call is for another run", fix="Use this run's invite.")
        if abs(seconds_between(Millis(value.at), self.clock())) > self.timing.claim:
            raise RefusedError("the call is of another time", fix="Check the clock, and start again.")
        return (await auditing.answer(call)).wire

    def vouches_for(self, key: PublicKey) -> bool:
        """Whether the maintainer trusts a key by name."""
        return self.store.snapshot.vouches_for(key)

    def report_fault(self, report: Signed[FaultReport]) -> None:
        """Log and keep a volunteer's report. Raises RefusedError for another run's."""
        if report.value.run != self.store.charter.run:
            raise RefusedError("the report is for another run", fix="Use this run's invite.")
        if self.store.snapshot.position.standings.bans(report.signer):
            raise claim_refusal(Banned(""))
        match self.faults.consider(report.value, self.clock()):
            case Kept(device, problem):
                log.warning(
                    "volunteer %s reports that the run fails on %s: %s", short(report.signer), device, problem
                )
            case TooManyReports():
                log.info("a report of volunteer %s is dropped: there are too many", short(report.signer))

    def status(self) -> RunStatus:
        """The status of the run."""
        now, run, members = self.clock(), self.store.snapshot, self.session.members
        divergence = self.session.divergence
        phase = run.window.phase(now, self.session.open_round.tokens(members, now))
        return RunStatus(
            run=run.charter.run,
            round=run.round,
            phase="over" if run.is_over else phase.value,
            waiting_for=progress_message(self.session.progress),
            state=run.tip.state,
            state_round=run.tip.round,
            tokens=run.tokens,
            loss=run.loss,
            divergence=divergence_message(divergence) if divergence else "",
            checkpoint_round=run.newest_checkpoint.value.round,
            evaluation=pending_message(self.publisher.pending_evaluation()),
            peers=members.statuses(now, run.claims, self.session.open_round.not_awaited),
            length=length_so_far(run.position, run.spec),
            rehearsed=run.charter.rehearsed,
            faults=self.faults.statuses(now),
        )
