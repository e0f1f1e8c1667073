"""An auditor's loop against scripted answers, in virtual time, with the auditing program replaced."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from barnraise.contract.audit_task import (
    AuditAnswer,
    AuditCall,
    AuditTask,
    Disagreement,
    GivenContribution,
    Trial,
)
from barnraise.contract.shards import DataIndex
from barnraise.contract.state import Array
from barnraise.core.errors import RefusedError, Unreachable
from barnraise.core.ids import BlobHash, PublicKey, RunId, StateHash
from barnraise.core.signed import Signed
from barnraise.evaluation.audit_job import AuditJob, AuditReply, Measured
from barnraise.evaluation.failures import EvaluationFailure, NotEnoughMemory
from barnraise.runtime.blob_store import BlobStore
from peer.auditing import auditor as module
from peer.auditing import events
from peer.auditing.auditor import Auditor, Material
from peer.timing import TIMING
from tests.support import parts
from tests.support.tiny import packed, tiny_samples
from tests.support.virtual_time import run as in_virtual_time

ME, ADA, BEN = parts.AUTHORITY, parts.ADA.public, parts.BEN.public
HARM, ERROR = 9000, 1000


@dataclass
class Stage:
    """A coordinator that answers as scripted, and a machine that audits."""

    folder: Path
    answers: list[AuditAnswer | Exception]
    share: float | None = None
    state_after: int = 0
    """Looks at the states before the wanted one is there; -1: never."""
    failure: EvaluationFailure | None = None
    calls: list[AuditCall] = field(default_factory=list)
    at: list[float] = field(default_factory=list)
    seen: list[events.AuditEvent] = field(default_factory=list)
    jobs: list[AuditJob] = field(default_factory=list)
    fetched: list[tuple[str, tuple[PublicKey, ...]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.coordinator_blobs = BlobStore(self.folder / "theirs")
        self.blobs = BlobStore(self.folder / "ours")
        self.index: DataIndex = packed(self.coordinator_blobs, tiny_samples(8, seed=1))
        self.contribution = self.coordinator_blobs.put(b"a contribution")

    def task(self, round: int = 4) -> AuditTask:
        given = tuple(
            GivenContribution(key=key, blob=self.contribution, size=14, taken=500_000)
            for key in sorted((ADA, BEN))
        )
        return AuditTask(round=round, base_state=parts.HASH_A, contributions=given, samples=((0, 1), (0, 5)))

    # The network

    async def ask(self, call: Callable[[Any], Awaitable[AuditAnswer]]) -> AuditAnswer:
        return await call(self)

    async def audit(self, call: Signed[AuditCall], run_key: PublicKey) -> AuditAnswer:
        assert (call.signer, run_key) == (ME.public, parts.AUTHORITY.public)
        self.calls.append(call.value)
        self.at.append(asyncio.get_running_loop().time())
        answer = self.answers.pop(0) if self.answers else asyncio.CancelledError()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def fetch(self, name: BlobHash, limit: int, having: Sequence[PublicKey]) -> Path:
        self.fetched.append((name, tuple(having)))
        if name not in self.blobs:
            self.blobs.put(self.coordinator_blobs.get(name))
        return self.blobs.path(name)

    # The machine

    def params(self, state: StateHash) -> Mapping[str, Array] | None:
        assert state == parts.HASH_A
        self.state_after -= 1
        return parts.tensors(1) if self.state_after == -1 else None

    async def run_audit(self, job: AuditJob, folder: Path) -> AuditReply | EvaluationFailure:
        self.jobs.append(job)
        _check_files(job)
        if self.failure is not None:
            return self.failure
        results = [
            Measured(
                key=each.key, blob=each.blob, finding="tried", change=HARM if each.key == BEN else -HARM,
                error=ERROR, norm=1.0, alignment=0, audited=True, taken=each.taken,
            )
            for each in job.contributions
        ]  # fmt: skip
        return AuditReply(results=tuple(results), forward_passes=6, seconds=10.0, pass_seconds=5.0)

    def audits(self, patch: pytest.MonkeyPatch) -> None:
        """Run the auditor until the script ends."""
        patch.setattr(module, "run_audit", self.run_audit)
        keys = SimpleNamespace(run_key=parts.AUTHORITY.public, at_work=None)
        charter = parts.charter(parts.run_spec(), parts.state())
        charter = cast(Any, getattr(charter, "value", charter))
        material = Material(
            charter, Path("base"), self.index, cast(Any, self), self.blobs, cast(Any, keys), self, self.folder
        )
        auditor = Auditor(
            ME, cast(Any, self), material, lambda: parts.NOW, self.seen.append, 1, self.share, TIMING
        )

        async def until_the_end() -> None:
            task = asyncio.create_task(auditor.run())
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()

        in_virtual_time(until_the_end())


def _check_files(job: AuditJob) -> None:
    assert Path(job.state).is_file()
    paths = [*(each.path for each in job.contributions), *(each.path for each in job.samples)]
    assert all(Path(path).is_file() for path in paths)


def answer(**fields: object) -> AuditAnswer:
    return AuditAnswer.model_validate({"run": parts.RUN, "owner": ME.public, "at": parts.NOW} | fields)


def stage(folder: Path, *answers: AuditAnswer | Exception, **other: Any) -> Stage:
    return Stage(folder, list(answers), **other)


def test_it_tries_what_it_is_given_and_reports_it_with_the_next_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = stage(tmp_path)
    task = made.task()
    made.answers = [answer(task=task), answer(taken="counted")]
    made.audits(monkeypatch)
    first, second, third = made.calls
    assert (first.report, third.report) == (None, None)
    assert second.report is not None
    assert second.report.answers(task)
    assert [each.change for each in second.report.trials] == [
        HARM if each.key == BEN else -HARM for each in task.contributions
    ]
    assert made.seen == [
        events.AuditStarts(4, 2, 2),
        events.RoundTried(4, 10.0, (BEN,)),
        events.ReportTaken(4, "counted"),
        events.AwaitingRound(),
    ]
    (job,) = made.jobs
    assert [each.row for each in job.samples] == [1, 5]
    assert [each.taken for each in job.contributions] == [500_000, 500_000]
    assert made.contribution in made.blobs
    assert made.index.shards[0].blob not in made.blobs, "a shard that was fetched for it is removed"
    assert made.fetched[0][1][0] == task.contributions[0].key, "its owner has it"


def test_it_waits_for_a_state_that_is_being_folded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = stage(tmp_path, state_after=3)
    made.answers = [answer(task=made.task()), answer(taken="counted")]
    made.audits(monkeypatch)
    assert made.calls[1].report is not None
    assert made.at[1] == pytest.approx(3 * TIMING.poll)


@pytest.mark.parametrize(
    "absurd", [{"size": 2**40 - 1}, {"samples": ((0, 1), (2**40 - 1, 0))}], ids=lambda each: next(iter(each))
)
def test_it_fetches_nothing_that_the_run_cannot_have(
    absurd: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = stage(tmp_path)
    task = made.task()
    if "size" in absurd:
        given = task.contributions
        absurd = {"contributions": (given[0], given[1].model_copy(update=absurd))}
    made.answers = [answer(task=task.model_copy(update=absurd))]
    made.audits(monkeypatch)
    assert made.fetched == []
    assert (made.calls[1].report, made.calls[1].cannot) == (None, 4)


def test_it_says_that_it_cannot_where_the_state_is_not_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = stage(tmp_path, state_after=-1)
    made.answers = [answer(task=made.task())]
    made.audits(monkeypatch)
    assert (made.calls[1].report, made.calls[1].cannot) == (None, 4)
    assert events.StateMissing(4) in made.seen
    assert not made.jobs


def test_a_machine_with_too_little_memory_says_so_and_rests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failure = NotEnoughMemory(2, 1)
    made = stage(tmp_path, failure=failure)
    made.answers = [answer(task=made.task()), answer(), answer()]
    made.audits(monkeypatch)
    assert (made.calls[1].cannot, made.calls[1].asks) == (4, False)
    assert events.AuditFailed(4, failure, TIMING.audit_failed) in made.seen
    assert made.at[2] - made.at[1] >= TIMING.audit_failed


def test_a_volunteer_that_trains_audits_in_its_share_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = stage(tmp_path, share=0.1)
    made.answers = [answer(task=made.task()), answer(taken="counted"), answer()]
    made.audits(monkeypatch)
    assert [(call.report is not None, call.asks) for call in made.calls[:3]] == [
        (False, True),
        (True, False),
        (False, True),
    ]
    assert made.at[2] - made.at[1] == pytest.approx(90.0)
    assert events.Resting(pytest.approx(90.0)) in made.seen  # type: ignore[arg-type]


def test_a_report_is_sent_again_until_the_coordinator_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, away = stage(tmp_path), Unreachable("nobody answers", fix="Wait.")
    made.answers = [answer(task=made.task()), away, RefusedError("no", fix="No."), answer(taken="late")]
    made.audits(monkeypatch)
    assert made.calls[1].report == made.calls[2].report == made.calls[3].report is not None
    assert made.seen.count(events.CallFailed("nobody answers", TIMING.audit_retry)) == 1
    assert events.ReportTaken(4, "late") in made.seen


def test_a_key_that_is_not_vouched_for_asks_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = answer(refused="not vouched", pause=20.0)
    made = stage(tmp_path, refused, refused)
    made.audits(monkeypatch)
    assert made.at == [0.0, 20.0, 40.0]
    assert made.seen == [events.NotVouched(RunId(parts.RUN), ME.public, 20.0)], "it is said once"


def test_it_ends_where_it_is_not_asked_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = Trial(key=ADA, blob=parts.HASH_A, change=1, error=1)
    wrong = Disagreement(round=4, key=ADA, reported=trial, found=trial)
    made = stage(tmp_path, answer(refused="not asked any more", wrong=wrong), answer())
    made.audits(monkeypatch)
    assert len(made.calls) == 1
    assert made.seen == [events.NotAsked(wrong)]
