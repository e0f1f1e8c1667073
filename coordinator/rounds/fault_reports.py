"""Volunteers' reports that the run cannot be trained: kept for the status, and limited. Pure.

Any key may claim anything, so a report is shown to the maintainer and changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from barnraise.contract.fault_report import FaultReport
from barnraise.contract.rounds import seconds_between
from barnraise.contract.status import FaultStatus
from barnraise.core.ids import Millis, short
from barnraise.core.plain_text import one_line
from barnraise.core.reason import Reason

KEPT = 5
"""Newest reports that the status shows."""


@dataclass(frozen=True)
class Kept(Reason):
    """The report is in the status."""

    device: str
    problem: str


@dataclass(frozen=True)
class TooManyReports(Reason):
    """The report is dropped: its owner, or all volunteers together, reported too recently."""

    wait: float
    """Seconds until the next report is kept."""


@dataclass
class FaultReports:
    """The newest reports, at most one per owner and at most `KEPT` in `seconds`."""

    seconds: float
    """The time in which `KEPT` reports are accepted."""
    _kept: list[tuple[Millis, FaultReport]] = field(default_factory=list)

    def consider(self, report: FaultReport, now: Millis) -> Kept | TooManyReports:
        """Keep `report` unless it comes too soon. now: the time of receipt."""
        recent = [(at, kept) for at, kept in self._kept if seconds_between(at, now) < self.seconds]
        own = [at for at, kept in recent if kept.owner == report.owner]
        if own or len(recent) >= KEPT:
            return TooManyReports(self.seconds - seconds_between((own or [recent[0][0]])[0], now))
        self._kept = [*self._kept, (now, report)][-KEPT:]
        return Kept(one_line(report.device), one_line(report.problem))

    def statuses(self, now: Millis) -> tuple[FaultStatus, ...]:
        """The newest reports, the newest first."""
        return tuple(
            FaultStatus(
                key=short(report.owner),
                device=one_line(report.device),
                problem=one_line(report.problem),
                seconds_ago=seconds_between(at, now),
            )
            for at, report in reversed(self._kept)
        )
