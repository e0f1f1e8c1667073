"""Which of volunteers' reports are kept, and what the status shows of them."""

from __future__ import annotations

from barnraise.contract.fault_report import FaultReport
from barnraise.core.identity import Identity
from barnraise.core.ids import Millis
from coordinator.rounds.fault_reports import KEPT, FaultReports, Kept, TooManyReports
from tests.support.parts import ADA, BEN, NOW, RUN

HOUR = 3600.0


def report(owner: Identity, problem: str = "no loss") -> FaultReport:
    return FaultReport(run=RUN, owner=owner.public, device="CPU", problem=problem, at=NOW)


def later(seconds: float) -> Millis:
    return Millis(NOW + int(1000 * seconds))


def test_a_report_is_kept_and_shown() -> None:
    reports = FaultReports(HOUR)
    assert reports.consider(report(ADA), NOW) == Kept("CPU", "no loss")
    (shown,) = reports.statuses(later(60))
    assert (shown.key, shown.device, shown.problem, shown.seconds_ago) == (
        ADA.public[:8],
        "CPU",
        "no loss",
        60,
    )


def test_a_volunteer_reports_once_an_hour() -> None:
    reports = FaultReports(HOUR)
    reports.consider(report(ADA), NOW)
    assert reports.consider(report(ADA), later(600)) == TooManyReports(3000)
    assert isinstance(reports.consider(report(BEN), later(600)), Kept)
    assert isinstance(reports.consider(report(ADA), later(HOUR)), Kept)


def test_many_keys_report_no_more_than_a_few_times() -> None:
    reports = FaultReports(HOUR)
    keys = [Identity.from_seed(bytes([n]) * 32) for n in range(50, 50 + KEPT + 1)]
    kept = [reports.consider(report(key), later(n)) for n, key in enumerate(keys)]
    assert kept == [Kept("CPU", "no loss")] * KEPT + [TooManyReports(HOUR - KEPT)]
    assert len(reports.statuses(later(9))) == KEPT


def test_the_newest_reports_are_shown() -> None:
    reports = FaultReports(1.0)
    for n in range(KEPT + 2):
        reports.consider(report(ADA, f"fault {n}"), later(2 * n))
    assert [each.problem for each in reports.statuses(later(99))] == [f"fault {n}" for n in (6, 5, 4, 3, 2)]


def test_escape_sequences_do_not_reach_a_terminal() -> None:
    found = FaultReports(HOUR).consider(report(ADA, "\x1b[2Jgone\nok"), NOW)
    assert found == Kept("CPU", r"\x1b[2Jgone\nok")
