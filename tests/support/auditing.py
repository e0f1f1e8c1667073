"""Rounds of a run store that an auditor audits, honestly or not, with the auditing program replaced."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from barnraise.contract.audit_task import AuditAnswer, AuditCall, AuditTask, Trial, TrialReport
from barnraise.contract.log_entries import Change
from barnraise.contract.standing import Level
from barnraise.core.identity import Identity
from barnraise.core.ids import PublicKey
from barnraise.core.signed import open_signed, sign
from barnraise.evaluation.audit_job import AuditJob, AuditReply, Measured, SecretSample, Tried
from barnraise.fold.log import Link
from coordinator.audits import auditing as module
from coordinator.audits.auditing import Auditing
from coordinator.store.next_entry import standing_change_of
from coordinator.store.run_store import RunStore
from coordinator.timing import TIMING
from tests.support import parts
from tests.support.coordinators import fold_round

AUDITOR = Identity.from_seed(bytes(31) + b"\x07")
ERROR = 1000
Act = Callable[[AuditTask], "AuditCall | None"]


def call(**fields: object) -> AuditCall:
    return AuditCall.model_validate({"run": parts.RUN, "owner": AUDITOR.public, "at": parts.NOW} | fields)


@dataclass
class AuditedRun:
    """A run whose rounds are audited. harm: what each key's contribution changes the loss by."""

    store: RunStore
    patch: pytest.MonkeyPatch
    harm: Mapping[PublicKey, int]
    audits: Auditing = field(init=False)
    jobs: list[AuditJob] = field(default_factory=list)
    """What the coordinator's own program was asked."""
    answers: list[AuditAnswer] = field(default_factory=list)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    def __post_init__(self) -> None:
        self.patch.setattr(module, "prepare", lambda closed, *_: self._job(closed.link))
        self.audits = self._auditing()

    def _auditing(self) -> Auditing:
        timing = replace(TIMING, audit_hold=1e6, audit=1e6)
        return Auditing(self.store, lambda: parts.NOW, self._run_job, timing)

    def close(self) -> None:
        self._loop.close()

    def restart(self) -> None:
        """Go on as after a restart of the coordinator."""
        self.audits = self._auditing()

    def no_patience(self) -> None:
        """An auditor that does not answer at once is late."""
        self.audits.seconds = lambda: 0.0  # type: ignore[method-assign]

    def vouch(self) -> None:
        """Have the log say that the maintainer trusts the auditor."""
        self.order(AUDITOR.public, "trusted")

    def order(self, key: PublicKey, level: Level) -> None:
        """Have the log say what the maintainer orders about a key."""
        change = Change(key=key, level=level, work=0, cause="order")
        self.store.amend(standing_change_of(self.store.snapshot, [change], [], parts.NOW), parts.NOW)

    def honest(self, task: AuditTask) -> AuditCall:
        """The report of an auditor that reports what it finds."""
        return self.lying(task, {})

    def lying(self, task: AuditTask, lies: Mapping[PublicKey, int]) -> AuditCall:
        """lies: of some keys, the change that is reported instead."""
        trials = [
            Trial(
                key=each.key,
                blob=each.blob,
                change=lies.get(PublicKey(each.key), self._change(each.key)),
                error=ERROR,
            )
            for each in task.contributions
        ]
        return call(report=TrialReport(round=task.round, base_state=task.base_state, trials=tuple(trials)))

    def play(self, act: Act, *, meanwhile: Callable[[], object] = lambda: None) -> None:
        """One round, for which the auditor's call waits. act: its next call; None where it is away.

        meanwhile: called while it waits.
        """
        before = self.store.state
        link = fold_round(self.store, parts.ADA, parts.BEN)
        self._loop.run_until_complete(self._play(act, link, before, meanwhile))

    async def _play(self, act: Act, link: Link, before: object, meanwhile: Callable[[], object]) -> None:
        tasks: list[asyncio.Task[Any]] = [asyncio.create_task(self._ask(call()))]
        for _ in range(3):  # it waits, or was refused
            await asyncio.sleep(0)
        meanwhile()
        self.audits.closed(link, before, {})  # type: ignore[arg-type]
        tasks.append(asyncio.create_task(self.audits.run()))
        acted = False
        while self.audits.ledger.newest < link.close.round:
            await asyncio.sleep(0)
            assert not tasks[1].done(), tasks[1].result()
            if tasks[0].done() and not acted:
                acted = True
                answer = tasks[0].result()
                if answer.task is not None and (reply := act(answer.task)) is not None:
                    tasks.append(asyncio.create_task(self._ask(reply)))
        for _ in range(3):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, asked: AuditCall) -> AuditAnswer:
        signed = await self.audits.answer(sign(AUDITOR, asked))
        answer = open_signed(AuditAnswer, signed.wire, signer=parts.AUTHORITY.public).value
        self.answers.append(answer)
        return answer

    def asked(self) -> AuditAnswer:
        """The answer to a call of the auditor that is refused at once."""
        return self._loop.run_until_complete(self._ask(call()))

    def suspended(self) -> set[PublicKey]:
        """Keys that audits have suspended by now; the log says it."""
        entry = self.audits.entry(parts.NOW)
        if entry is not None:
            self.store.amend(entry, parts.NOW)
        by_key = self.store.snapshot.position.standings.by_key
        return {key for key, standing in by_key.items() if standing.level == "suspended"}

    @property
    def tried_here(self) -> list[int]:
        """Contributions that each program of the coordinator's own tried."""
        return [sum(each.audited for each in job.contributions) for job in self.jobs]

    def _change(self, key: str) -> int:
        return self.harm.get(PublicKey(key), -100_000)

    async def _run_job(self, job: AuditJob, _: Path) -> AuditReply:
        self.jobs.append(job)
        results = [
            Measured(
                key=each.key, blob=each.blob, finding="tried", change=self._change(each.key) * each.audited,
                error=ERROR * each.audited, norm=1.0, alignment=1, audited=each.audited,
                taken=10**6,
            )
            for each in job.contributions
        ]  # fmt: skip
        passes = job.forward_passes
        return AuditReply(results=tuple(results), forward_passes=passes, seconds=0.2, pass_seconds=0.1)

    @staticmethod
    def _job(link: Link) -> AuditJob:
        tried = [
            Tried(
                key=commit.owner,
                blob=commit.blob,
                path="",
                audited=True,
                trusted=True,
                seen=None,
                taken=10**6,
            )
            for commit in link.commits
        ]
        return AuditJob(
            base="", spec=parts.run_spec(), round=link.close.round, state="", sequence_length=8, vocab_size=8,
            contributions=tuple(tried), samples=(SecretSample(path="", row=3, shard=0),), sketches="", seed=0,
            threads=1,
        )  # fmt: skip
