"""Audits of a run store's rounds, with the auditing program replaced: from a reply to the log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from barnraise.contract.audit_report import AuditReport
from barnraise.contract.log_entries import Change, StandingChange
from barnraise.contract.standing import Standing
from barnraise.contract.trust_spec import TrustSpec
from barnraise.core.signed import open_text
from barnraise.evaluation.audit_job import AuditJob, AuditReply, Measured, Tried
from barnraise.evaluation.failures import EvaluationFailure, NotEnoughMemory
from barnraise.fold.log import Link
from coordinator.audits import auditing as module
from coordinator.audits.auditing import Auditing
from coordinator.audits.choose import Budget
from coordinator.audits.ledger import Ledger
from coordinator.audits.ledger_file import LEDGER, REPORTS, LedgerFile
from coordinator.audits.preparing import ClosedRound, prepare
from coordinator.reasons.audits import BudgetSaved, FilesMissing
from coordinator.run_folder import AUDITS
from coordinator.store.next_entry import delegation_of, standing_change_of
from coordinator.store.run_store import RunStore
from tests.support import parts
from tests.support.coordinators import fold_round, opened_store

BAD = parts.BEN.public


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with opened_store(tmp_path) as made:
        yield made


def job(link: Link) -> AuditJob:
    tried = [
        Tried(key=commit.owner, blob=commit.blob, path="", audited=True, trusted=True, seen=None, taken=10**6)
        for commit in link.commits
    ]
    return AuditJob(
        base="", spec=parts.run_spec(), round=link.close.round, state="", sequence_length=8, vocab_size=8,
        contributions=tuple(tried), samples=(), sketches="", seed=0, threads=1,
    )  # fmt: skip


async def measured(job: AuditJob, folder: Path) -> AuditReply | EvaluationFailure:
    results = [
        Measured(
            key=each.key, blob=each.blob, finding="tried", change=1000 if each.key == BAD else -1000, error=1,
            norm=1.0, alignment=1, audited=True, taken=10**6,
        )
        for each in job.contributions
    ]  # fmt: skip
    return AuditReply(results=tuple(results), forward_passes=5, seconds=0.1, pass_seconds=0.1)


def auditing(store: RunStore, run_job: module.RunJob = measured) -> Auditing:
    return Auditing(store, lambda: parts.NOW, run_job)


async def until(auditing: Auditing, happened: Callable[[], bool]) -> None:
    task = asyncio.create_task(auditing.run())
    while not happened():
        assert not task.done(), task.result()
        await asyncio.sleep(0)
    task.cancel()


def audit_round(store: RunStore, auditing: Auditing) -> None:
    before = store.state
    link = fold_round(store, parts.ADA, parts.BEN)
    auditing.closed(link, before, {})
    asyncio.run(until(auditing, lambda: auditing.ledger.newest == link.close.round))


@pytest.fixture
def _prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "prepare", lambda closed, *_: job(closed.link))


@pytest.mark.usefixtures("_prepared")
def test_harm_leads_to_an_entry_of_the_log_that_suspends_the_key(store: RunStore) -> None:
    audits = auditing(store)
    for _ in range(6):
        audit_round(store, audits)
        assert audits.entry(parts.NOW) is None
    audit_round(store, audits)
    assert isinstance(audits.entry(parts.NOW), StandingChange)
    store.amend(delegation_of(store.snapshot, (), parts.NOW), parts.NOW)
    assert audits.entry(parts.NOW) is None, "a delegation takes effect first"
    fold_round(store, parts.ADA)
    entry = audits.entry(parts.NOW)
    assert isinstance(entry, StandingChange)
    assert [(change.key, change.level, change.cause) for change in entry.changes] == [
        (BAD, "suspended", "audit")
    ]
    store.amend(entry, parts.NOW)
    assert store.snapshot.position.standings.by_key == {BAD: Standing("suspended")}
    assert audits.entry(parts.NOW) is None, "it is said once"


@pytest.mark.usefixtures("_prepared")
def test_a_key_that_the_maintainer_trusts_again_begins_without_its_old_evidence(store: RunStore) -> None:
    audits = auditing(store)
    for _ in range(7):
        audit_round(store, audits)
    suspended = audits.entry(parts.NOW)
    assert suspended is not None
    store.amend(suspended, parts.NOW)
    assert audits.entry(parts.NOW) is None
    trusted = Change(key=BAD, level="trusted", work=0, cause="order")
    store.amend(standing_change_of(store.snapshot, [trusted], [], parts.NOW), parts.NOW)
    assert audits.entry(parts.NOW) is None
    assert BAD not in audits.ledger.by_key


@pytest.mark.usefixtures("_prepared")
def test_the_ledger_and_the_reports_survive_a_restart(store: RunStore) -> None:
    before = auditing(store)
    audit_round(store, before)
    audit_round(store, before)
    folder = store.folder / AUDITS
    assert LedgerFile(folder).load() == before.ledger
    reports = [
        open_text(AuditReport, line, signer=parts.AUTHORITY.public).value
        for line in (folder / REPORTS).read_text().splitlines()
    ]
    assert [report.round for report in reports] == [0, 1]
    (folder / LEDGER).write_text('{"keys": 5}')
    assert LedgerFile(folder).load() == Ledger(), "a damaged one is set aside"
    assert LedgerFile(folder).secret() == LedgerFile(folder).secret()


@pytest.mark.usefixtures("_prepared")
def test_reports_that_the_ledger_lacks_are_added_at_a_start(store: RunStore) -> None:
    audits, folder = auditing(store), store.folder / AUDITS
    for _ in range(6):
        audit_round(store, audits)
    older = (folder / LEDGER).read_bytes()
    audit_round(store, audits)
    (folder / LEDGER).write_bytes(older)  # a power cut came between the report and the ledger
    assert LedgerFile(folder).caught_up(store.snapshot) == audits.ledger
    (folder / LEDGER).write_bytes(b"")
    assert LedgerFile(folder).caught_up(store.snapshot) == audits.ledger, "from the reports alone"
    assert auditing(store).entry(parts.NOW) is None
    again = auditing(store)
    asyncio.run(until(again, lambda: again.ledger.newest >= 0))
    assert again.entry(parts.NOW) == audits.entry(parts.NOW) is not None


@pytest.mark.usefixtures("_prepared")
def test_a_rebuilt_ledger_has_nothing_on_keys_whose_level_changed(store: RunStore) -> None:
    audits, folder = auditing(store), store.folder / AUDITS
    for _ in range(7):
        audit_round(store, audits)
    suspended = audits.entry(parts.NOW)
    assert suspended is not None
    store.amend(suspended, parts.NOW)
    (folder / LEDGER).unlink()
    assert set(LedgerFile(folder).caught_up(store.snapshot).by_key) == {parts.ADA.public}


@pytest.mark.usefixtures("_prepared")
def test_a_report_that_a_power_cut_left_incomplete_spoils_no_other(store: RunStore) -> None:
    audits, folder = auditing(store), store.folder / AUDITS
    audit_round(store, audits)
    first = (folder / REPORTS).read_bytes()
    (folder / REPORTS).write_bytes(first + first[: len(first) // 2])
    audit_round(store, audits)
    (folder / LEDGER).unlink()
    assert LedgerFile(folder).caught_up(store.snapshot) == audits.ledger


@pytest.mark.usefixtures("_prepared")
def test_a_round_that_cannot_be_audited_is_logged_once(
    store: RunStore, caplog: pytest.LogCaptureFixture
) -> None:
    tried: list[int] = []

    async def fails(job: AuditJob, folder: Path) -> AuditReply | EvaluationFailure:
        tried.append(job.round)
        return NotEnoughMemory(2, 1)

    audits = auditing(store, fails)
    for round in range(3):
        audits.closed(fold_round(store, parts.ADA), store.state, {})
        asyncio.run(until(audits, lambda round=round: tried[-1:] == [round]))  # type: ignore[misc]
    assert audits.ledger == Ledger()
    assert len([each for each in caplog.records if "not audited" in each.message]) <= 1


def test_keys_without_weight_do_not_take_the_time_for_audits_away(tmp_path: Path) -> None:
    spec = parts.run_spec().model_copy(update={"trust": TrustSpec(mode="open", vouched=(parts.ADA.public,))})
    budgets = []
    for samples in (1, 10**6):
        with opened_store(tmp_path / str(samples), spec) as store:
            state, link = store.state, fold_round(store, parts.ADA, parts.BEN, parts.STRANGER)
            commits = tuple(
                each if each.owner == parts.ADA.public else each.model_copy(update={"samples": samples})
                for each in link.commits
            )
            audits = auditing(store)
            audits.closed(replace(link, commits=commits), state, {})
            budgets.append(audits.budget)
    assert budgets[0] == budgets[1] != Budget()


def test_without_budget_or_data_there_is_no_job(store: RunStore, tmp_path: Path) -> None:
    state = store.state
    closed = ClosedRound(fold_round(store, parts.ADA), state, {})
    file = LedgerFile(store.folder / AUDITS)
    assert prepare(closed, store, Ledger(), Budget(), file, tmp_path) == BudgetSaved(1)
    assert prepare(closed, store, Ledger(), Budget(1000.0), file, tmp_path) == FilesMissing()
