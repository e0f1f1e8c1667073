"""An auditor that lies takes no weight away, saves nobody for long, and delays audits by a bounded time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from barnraise.contract.audit_figures import MOST
from barnraise.contract.audit_report import MAX_RESULTS
from barnraise.contract.audit_task import (
    MAX_AUDIT_CALL_BYTES,
    AuditCall,
    AuditTask,
    Trial,
    TrialReport,
)
from barnraise.contract.standing import Level
from barnraise.core.errors import MalformedRecord
from barnraise.core.ids import PublicKey
from barnraise.core.signed import open_signed, sign
from coordinator.audits import trials
from coordinator.audits.auditors import LONGEST_LEFT_OUT, Auditors, Record
from coordinator.audits.ledger_file import LedgerFile
from coordinator.run_folder import AUDITS
from tests.support import parts
from tests.support.auditing import AUDITOR, AuditedRun, call
from tests.support.coordinators import opened_store

HONEST, BAD = parts.ADA.public, parts.BEN.public
HARM = 200_000
NANO = 10**9


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AuditedRun]:
    with opened_store(tmp_path) as store:
        (store.folder / AUDITS).mkdir()
        (store.folder / AUDITS / "secret").write_bytes(bytes(32))  # the draws are the same in each run
        made = AuditedRun(store, monkeypatch, {BAD: HARM})
        made.vouch()
        yield made
        made.close()


def test_an_honest_auditor_s_report_counts_once_the_coordinator_has_seen_the_harm(run: AuditedRun) -> None:
    for _ in range(7):
        run.play(run.honest)
        assert not run.audits.ledger.wrong
    assert run.suspended() == {BAD}
    assert run.audits.auditors.of(AUDITOR.public).answered == 7
    assert run.tried_here.count(1) >= 4, "of most rounds the harmful contribution alone"


def test_it_blames_an_honest_key(run: AuditedRun) -> None:
    for _ in range(12):
        run.play(lambda task: run.lying(task, {HONEST: HARM}))
        assert HONEST not in run.suspended()
    wrong = run.audits.ledger.wrong[AUDITOR.public]
    assert (wrong.round, wrong.key) == (0, HONEST), "its first lie"
    assert run.audits.ledger.of(HONEST, run.store.snapshot.standing(HONEST)).work == 12
    answer = run.asked()
    assert (answer.refused, answer.wrong, answer.task) == ("not asked any more", wrong, None)
    run.restart()
    run.play(run.honest)
    assert run.asked().refused == "not asked any more", "a restart forgets nothing"


def test_it_blames_an_honest_key_after_a_long_time(run: AuditedRun) -> None:
    for _ in range(5):
        run.play(run.honest)
    run.play(lambda task: run.lying(task, {HONEST: HARM}))
    assert AUDITOR.public in run.audits.ledger.wrong
    assert not run.audits.ledger.of(HONEST, run.store.snapshot.standing(HONEST)).auditors


@pytest.mark.parametrize("reported", [-100_000, 0, -MOST])
def test_it_reports_a_friend_s_harm_as_harmless(run: AuditedRun, reported: int) -> None:
    run.play(run.honest)  # its first report is always repeated
    rounds = 0
    while AUDITOR.public not in run.audits.ledger.wrong:
        run.play(lambda task: run.lying(task, {BAD: reported}))
        rounds += 1
        assert rounds < 30
    assert rounds <= 3 / trials.OWN_SHARE
    for _ in range(8):
        run.play(run.honest)
    assert run.suspended() == {BAD}, "the coordinator audits alone from then on"


def test_it_states_an_error_that_hides_harm(run: AuditedRun) -> None:
    hidden = Trial(key=BAD, blob=parts.HASH_A, change=HARM, error=MOST)
    found = Trial(key=BAD, blob=parts.HASH_A, change=HARM, error=1000)
    assert not hidden.may_be_harm
    assert not hidden.agrees_with(found), "found where the round is repeated"
    assert found.agrees_with(found)


def test_it_never_answers(run: AuditedRun) -> None:
    run.no_patience()
    given = 0

    def away(_: AuditTask) -> None:
        nonlocal given
        given += 1

    for _ in range(16):
        run.play(away)
    assert given == 5, "left out for 1, 2, 4 and 8 rounds"
    assert run.suspended() == {BAD}, "the coordinator audited all 16"
    assert Record(missed=40).after(answered=False).left_out == LONGEST_LEFT_OUT


def test_it_answers_late(run: AuditedRun) -> None:
    late: list[AuditCall] = []

    def says_it_cannot(task: AuditTask) -> AuditCall:
        late.append(run.honest(task))
        return call(cannot=task.round)

    run.play(says_it_cannot)
    before = run.audits.ledger
    assert run.audits.auditors.take(sign(AUDITOR, late[0])) == "late"
    assert run.audits.ledger is before


@pytest.mark.parametrize(
    "change", ["fewer", "more", "another blob", "another state", "another round", "order"]
)
def test_it_answers_for_others(run: AuditedRun, change: str) -> None:
    def answer(task: AuditTask) -> AuditCall:
        report = run.honest(task).report
        assert report is not None
        one, two = report.trials
        changed: dict[str, dict[str, object]] = {
            "fewer": {"trials": (one,)},
            "more": {"trials": (one, two, two)},
            "another blob": {"trials": (one.model_copy(update={"blob": parts.HASH_B}), two)},
            "another state": {"base_state": parts.HASH_B},
            "another round": {"round": task.round + 1},
            "order": {"trials": (two, one)},
        }
        return call(report=report.model_copy(update=changed[change]))

    run.play(answer)
    assert run.audits.auditors.of(AUDITOR.public).missed == 1
    assert run.tried_here == [0, 2], "the coordinator tries them"


@pytest.mark.parametrize("change", [float("nan"), float("inf"), MOST + 1, 1.5, "1"])
def test_its_figures_are_no_numbers(change: object) -> None:
    with pytest.raises(ValidationError):
        Trial.model_validate({"key": HONEST, "blob": parts.HASH_A, "change": change, "error": 0})


def test_it_sends_a_million_results() -> None:
    trial = Trial(key=HONEST, blob=parts.HASH_A, change=0, error=0)
    with pytest.raises(ValidationError):
        TrialReport(round=0, base_state=parts.HASH_A, trials=(trial,) * (MAX_RESULTS + 1))
    most = TrialReport(round=2**39, base_state=parts.HASH_A, trials=(trial,) * MAX_RESULTS)
    wire = sign(AUDITOR, call(report=most)).wire
    assert open_signed(AuditCall, wire, signer=None, limit=MAX_AUDIT_CALL_BYTES).value.report == most
    with pytest.raises(MalformedRecord):
        open_signed(AuditCall, wire * 1000, signer=None, limit=MAX_AUDIT_CALL_BYTES)


def test_a_stranger_and_a_key_that_lost_its_trust_are_given_nothing(run: AuditedRun) -> None:
    assert not run.store.snapshot.vouches_for(BAD), "an invited key is trusted, and not by name"
    levels: tuple[Level, ...] = ("suspended", "banned", "probation")
    for level in levels:
        run.order(AUDITOR.public, level)
        answer = run.asked()
        assert (answer.refused, answer.task) == ("not vouched", None)
    run.vouch()
    run.play(run.honest)
    assert run.answers[-1].task is not None


@pytest.mark.parametrize("level", ["banned", "probation"])
def test_a_key_that_loses_its_trust_while_its_call_waits_is_given_nothing(
    run: AuditedRun, level: Level
) -> None:
    run.no_patience()
    given: list[AuditTask] = []
    run.play(lambda task: given.append(task), meanwhile=lambda: run.order(AUDITOR.public, level))
    assert not given
    assert run.tried_here == [2], "the coordinator audits alone, and waits for no report"


def test_another_auditor_gets_the_round_that_one_without_trust_waits_for() -> None:
    async def chosen(auditors: Auditors) -> PublicKey | None:
        waiting = [asyncio.create_task(auditors.call(sign(key, call(owner=key.public)))) for key in both]
        await asyncio.sleep(0)
        found = auditors.next(lambda key: key == HONEST)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        return found

    both = (parts.ADA, parts.BEN)
    assert {asyncio.run(chosen(Auditors(60.0))) for _ in range(8)} == {HONEST}


def test_harm_of_different_size_on_two_machines_is_no_lie() -> None:
    """A contribution may be made so that its loss is finite on one of two machines alone."""
    finite = Trial(key=BAD, blob=parts.HASH_A, change=900 * NANO, error=NANO)
    other = Trial(key=BAD, blob=parts.HASH_A, change=MOST, error=0)
    assert finite.agrees_with(other)
    assert other.agrees_with(finite)
    assert not finite.agrees_with(Trial(key=BAD, blob=parts.HASH_A, change=0, error=0))


def test_a_lie_that_voids_evidence_leaves_a_friend_watched(run: AuditedRun) -> None:
    for _ in range(6):
        run.play(run.honest)
    run.play(lambda task: run.lying(task, {HONEST: HARM}))
    ledger = run.audits.ledger
    assert AUDITOR.public in ledger.wrong
    assert ledger.suspicious == {BAD}
    assert ledger.of(BAD, run.store.snapshot.standing(BAD)).audited == 1, "by the coordinator alone"


def test_what_it_or_a_suspended_key_contributed_is_not_given_to_it(run: AuditedRun) -> None:
    run.play(run.honest)
    job = trials.with_trials_of(run.jobs[0], {HONEST, BAD})
    sizes = {each.blob: 1 for each in job.contributions}

    def given(auditor: PublicKey, **other: Level) -> list[str]:
        known: dict[PublicKey, Level] = {HONEST: "trusted", BAD: other.get("bad", "trusted")}
        task = trials.task_of(job, parts.HASH_A, sizes, known, auditor)
        return [] if task is None else [each.key for each in task.contributions]

    assert set(given(AUDITOR.public)) == {HONEST, BAD}
    assert given(HONEST) == [BAD]
    assert given(AUDITOR.public, bad="suspended") == [HONEST]
    assert given(HONEST, bad="suspended") == []


def test_the_secret_of_later_rounds_does_not_follow_from_a_task(run: AuditedRun) -> None:
    tasks: list[AuditTask] = []

    def keep(task: AuditTask) -> AuditCall:
        tasks.append(task)
        return run.honest(task)

    run.play(keep)
    secret = LedgerFile(run.store.folder / AUDITS).secret()
    text = tasks[0].model_dump_json()
    assert secret.hex() not in text
    assert PublicKey(secret.hex()) not in text
