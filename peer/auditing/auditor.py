"""Audits closed rounds for the coordinator: asks for one, tries its contributions, and reports."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from safetensors.numpy import save_file

from barnraise.contract.audit_figures import raises_loss
from barnraise.contract.audit_task import AuditAnswer, AuditCall, AuditTask, Trial, TrialReport
from barnraise.contract.charter import Charter
from barnraise.contract.keys_in_force import KeysInForce
from barnraise.contract.shards import DataIndex
from barnraise.contract.state import Array, Layout
from barnraise.contract.tip import holders
from barnraise.core.errors import BarnraiseError, MachineError, MalformedRecord
from barnraise.core.identity import Identity
from barnraise.core.ids import BlobHash, Millis, PublicKey, StateHash
from barnraise.core.signed import sign
from barnraise.evaluation.audit_job import AuditJob, AuditReply, SecretSample, Tried
from barnraise.evaluation.audit_runner import run_audit
from barnraise.evaluation.failures import EvaluationFailure
from barnraise.fold.codec import blob_limit
from barnraise.network.swarm import Swarm
from barnraise.runtime.blob_store import BlobStore
from barnraise.runtime.files import disk_errors, scratch_folder
from peer.auditing.events import (
    AuditEvent,
    AuditFailed,
    AuditStarts,
    AwaitingRound,
    CallFailed,
    NotAsked,
    NotVouched,
    ReportTaken,
    Resting,
    RoundTried,
    StateMissing,
)
from peer.coordinator_search import CoordinatorSearch
from peer.timing import TIMING, Timing


class States(Protocol):
    """The newest states of the run."""

    def params(self, state: StateHash) -> Mapping[str, Array] | None:
        """The parameters of a state; None where it is not here. Slow."""
        ...


@dataclass(frozen=True)
class Material:
    """What trials need."""

    charter: Charter
    base: Path
    """Folder of the base model."""
    index: DataIndex
    """Of the run's data."""
    swarm: Swarm
    blobs: BlobStore
    keys: KeysInForce
    states: States
    folder: Path
    """Of this program, for scratch files."""


@dataclass
class Auditor:
    """One key that audits."""

    identity: Identity
    search: CoordinatorSearch
    material: Material
    clock: Callable[[], Millis]
    """The run's."""
    notify: Callable[[AuditEvent], None]
    threads: int
    """Of the auditing program."""
    share: float | None = None
    """Of its computing time, which the auditor takes at most; None: all that is asked for."""
    timing: Timing = TIMING
    _events: set[type[AuditEvent]] = field(default_factory=set)
    """What was reported since the last round."""

    async def run(self) -> None:
        """Audit until cancelled; returns where the coordinator asks us no more. Raises MachineError."""
        call = self._call()
        while True:
            answer = await self._answered(call)
            if call.report is not None:
                self.notify(ReportTaken(call.report.round, answer.taken))
            if answer.refused == "not asked any more":
                self.notify(NotAsked(answer.wrong))
                return
            call = self._call()
            if answer.task is not None:
                call = await self._done(answer.task)
            else:
                self._note_pause(answer)
                await asyncio.sleep(max(answer.pause, self.timing.poll))

    def _call(
        self, report: TrialReport | None = None, cannot: int | None = None, *, asks: bool = True
    ) -> AuditCall:
        run, owner = self.material.charter.run, self.identity.public
        return AuditCall(run=run, owner=owner, report=report, cannot=cannot, asks=asks, at=self.clock())

    async def _answered(self, call: AuditCall) -> AuditAnswer:
        """The coordinator's answer, however long it takes."""
        while True:
            if (answer := await self._ask(call)) is not None:
                return answer
            await asyncio.sleep(self.timing.audit_retry)

    async def _ask(self, call: AuditCall) -> AuditAnswer | None:
        """The coordinator's answer; None where there is none now."""
        call = call.model_copy(update={"at": self.clock()})
        try:
            signed, run_key = sign(self.identity, call), self.material.keys.run_key
            return await self.search.ask(lambda api: api.audit(signed, run_key))
        except MachineError:
            raise
        except BarnraiseError as error:
            self._note(CallFailed(error.problem, self.timing.audit_retry))
            return None

    def _note_pause(self, answer: AuditAnswer) -> None:
        if answer.refused is not None:
            run, key = self.material.charter.run, self.identity.public
            self._note(NotVouched(run, key, answer.pause))
        else:
            self._note(AwaitingRound())

    def _note(self, event: AuditEvent) -> None:
        """Report it once between two rounds."""
        if type(event) not in self._events:
            self._events.add(type(event))
            self.notify(event)

    async def _done(self, task: AuditTask) -> AuditCall:
        """Audit a round; the next call."""
        self._events = set()
        self.notify(AuditStarts(task.round, len(task.contributions), len(task.samples)))
        try:
            found = await self._tried(task)
        except MachineError:
            raise
        except BarnraiseError as error:
            self.notify(CallFailed(error.problem, 0.0))
            return self._call(cannot=task.round)
        match found:
            case AuditReply():
                return await self._reported(task, found)
            case None:
                self.notify(StateMissing(task.round))
            case _:
                pause = self.timing.audit_failed
                self.notify(AuditFailed(task.round, found, pause))
                await self._ask(self._call(cannot=task.round, asks=False))
                await asyncio.sleep(pause)
        return self._call(cannot=task.round)

    async def _reported(self, task: AuditTask, found: AuditReply) -> AuditCall:
        report = _report(task, found)
        harmful = tuple(PublicKey(each.key) for each in report.trials if raises_loss(each.change, each.error))
        self.notify(RoundTried(task.round, found.seconds, harmful))
        if self.share is None:
            return self._call(report)
        answer = await self._answered(self._call(report, asks=False))
        self.notify(ReportTaken(task.round, answer.taken))
        pause = found.seconds * (1 / self.share - 1)
        self.notify(Resting(pause))
        await asyncio.sleep(pause)
        return self._call()

    async def _tried(self, task: AuditTask) -> AuditReply | EvaluationFailure | None:
        """None where the state is not here. Raises Unreachable, TrustError, DiskFull."""
        params = await self._params(StateHash(task.base_state))
        if params is None:
            return None
        self._check(task, Layout.of(params))
        fetched = await self._fetch(task)
        try:
            with scratch_folder(self.material.folder) as work:
                job = await asyncio.to_thread(self._job, task, params, work)
                return await run_audit(job, work)
        finally:
            for name in fetched:
                self.material.blobs.remove(name)

    def _check(self, task: AuditTask, layout: Layout) -> None:
        """Raise MalformedRecord for what the run cannot have: nothing of it is fetched."""
        most, shards = blob_limit(self.material.charter.spec.codec, layout), len(self.material.index.shards)
        if max(each.size for each in task.contributions) > most or max(_shards(task)) >= shards:
            raise MalformedRecord(
                f"the coordinator names a contribution of more than {most:,} bytes, or other samples than the"
                f" run's, for the audit of round {task.round}",
                fix="Ask the run's maintainer to update the coordinator.",
            )

    async def _params(self, state: StateHash) -> Mapping[str, Array] | None:
        """It may still be folded here."""
        poll = self.timing.poll
        for _ in range(max(1, round(self.timing.audit_state / poll))):
            found = await asyncio.to_thread(self.material.states.params, state)
            if found is not None:
                return found
            await asyncio.sleep(poll)
        return None

    async def _fetch(self, task: AuditTask) -> Sequence[BlobHash]:
        """Have all blobs here. Returns the shards that were not: a run may have more than a disk holds."""
        material = self.material
        having = holders(material.charter, material.keys.at_work)
        for each in task.contributions:
            await material.swarm.fetch(BlobHash(each.blob), each.size, (PublicKey(each.key), *having))
        shards = [ref for number, ref in enumerate(material.index.shards) if number in _shards(task)]
        missing = [ref.blob for ref in shards if ref.blob not in material.blobs]
        for ref in shards:
            await material.swarm.fetch(ref.blob, ref.size, having)
        return missing

    def _job(self, task: AuditTask, params: Mapping[str, Array], work: Path) -> AuditJob:
        material, index = self.material, self.material.index
        with disk_errors(work):
            save_file(dict(params), work / "state.safetensors")
        return AuditJob(
            base=str(material.base),
            spec=material.charter.spec,
            round=task.round,
            state=str(work / "state.safetensors"),
            sequence_length=index.sequence_length,
            vocab_size=index.vocab_size,
            contributions=tuple(
                Tried(
                    key=each.key,
                    blob=each.blob,
                    path=str(material.blobs.path(BlobHash(each.blob))),
                    audited=True,
                    trusted=True,
                    taken=each.taken,
                    seen=None,
                )
                for each in task.contributions
            ),
            samples=tuple(
                SecretSample(path=str(material.blobs.path(index.shards[shard].blob)), row=row)
                for shard, row in task.samples
            ),
            sketches=str(work / "sketches.safetensors"),
            seed=0,  # the coordinator compares contributions, not we
            threads=self.threads,
        )


def _shards(task: AuditTask) -> set[int]:
    return {shard for shard, _ in task.samples}


def _report(task: AuditTask, found: AuditReply) -> TrialReport:
    trials = tuple(
        Trial(key=each.key, blob=each.blob, change=each.change, error=each.error) for each in found.results
    )
    return TrialReport(round=task.round, base_state=task.base_state, trials=trials)
