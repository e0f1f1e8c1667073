"""What a coordinator gives an auditor to do, and what the auditor answers.

An auditor calls again and again: each call has the report of the round that it was given last, if any, and
asks for another one. The answer is signed by the run's key.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from barnraise.contract.audit_figures import Millionths, Nano, Size
from barnraise.contract.audit_report import MAX_RESULTS
from barnraise.contract.evidence import TOLERANCE, UNIT
from barnraise.contract.field_types import RoundNumber, Run, Time
from barnraise.core.signed import Extensible
from barnraise.core.strict import Hex64, Strict

MAX_AUDIT_CALL_BYTES = 60_000
MAX_AUDIT_ANSWER_BYTES = 60_000
MAX_SAMPLES = 128
ROUNDING = 10_000
"""Nanonats a token: two machines that try the same contribution on the same samples differ by less, since
their fp32 sums differ in order alone."""
LONGEST_PAUSE = 3600.0
"""Seconds before an auditor asks again, at most."""

Refused = Literal["not vouched", "not asked any more"]
Taken = Literal["none", "counted", "late", "another"]
"""What became of a report. none: the call had none. late: the coordinator went on without it.
another: it is not about what this auditor was given."""


class GivenContribution(Strict):
    """One contribution that is to be tried."""

    key: Hex64
    """Its owner."""
    blob: Hex64
    size: Annotated[int, Field(ge=0, lt=2**40)]
    taken: Millionths
    """As of `Tried`: the share of it that is tried."""


class AuditTask(Strict):
    """A closed round. Its samples are drawn for this round alone: knowing them afterwards teaches nothing."""

    round: RoundNumber
    base_state: Hex64
    contributions: Annotated[tuple[GivenContribution, ...], Field(min_length=1, max_length=MAX_RESULTS)]
    samples: Annotated[
        tuple[tuple[Annotated[int, Field(ge=0, lt=2**40)], Annotated[int, Field(ge=0, lt=2**40)]], ...],
        Field(min_length=1, max_length=MAX_SAMPLES),
    ]
    """(shard, row) in the run's data."""


class Trial(Strict):
    """Of one contribution."""

    key: Hex64
    blob: Hex64
    change: Nano
    """As in `Figures`."""
    error: Size

    @property
    def may_be_harm(self) -> bool:
        """Whether its score could be above TOLERANCE, with any reference (`Figures.score`)."""
        return UNIT * self.change > TOLERANCE * self.error

    def agrees_with(self, own: Trial) -> bool:
        """Whether both can be of the same contribution and samples. own: what this machine found.

        Where both find harm, how much does not matter: a contribution may be made so that two machines
        differ by more than sums in another order do.
        """
        allowed = own.allowed
        if self.may_be_harm and own.may_be_harm:
            return True
        return abs(self.change - own.change) <= allowed and abs(self.error - own.error) <= allowed

    @property
    def allowed(self) -> int:
        """Nanonats by which another machine's figures may differ from these."""
        return self.error // 2 + ROUNDING


class TrialReport(Strict):
    """An auditor's answer to a task."""

    round: RoundNumber
    base_state: Hex64
    trials: Annotated[tuple[Trial, ...], Field(min_length=1, max_length=MAX_RESULTS)]

    def answers(self, task: AuditTask) -> bool:
        """Whether it is about all that the task names and nothing else."""
        given = [(each.key, each.blob) for each in task.contributions]
        tried = [(each.key, each.blob) for each in self.trials]
        return (self.round, self.base_state, tried) == (task.round, task.base_state, given)


class AuditCall(Extensible):
    """Signed by an auditor."""

    DOMAIN = b"barnraise/AuditCall/1\n"

    run: Run
    owner: Hex64
    """The auditor."""
    report: TrialReport | None = None
    cannot: RoundNumber | None = None
    """The round that it was given and cannot audit."""
    asks: bool = True
    """Whether it gets another round; else the call only reports."""
    at: Time


class Disagreement(Strict):
    """Why an auditor is not asked any more: the coordinator repeated a trial and found something else."""

    round: RoundNumber
    key: Hex64
    """Whose contribution it was."""
    reported: Trial
    found: Trial


class AuditAnswer(Extensible):
    """Signed by the run's key."""

    DOMAIN = b"barnraise/AuditAnswer/1\n"

    run: Run
    owner: Hex64
    """The auditor that asked."""
    taken: Taken = "none"
    task: AuditTask | None = None
    refused: Refused | None = None
    """Why the key gets no task; None where there is only none now."""
    wrong: Disagreement | None = None
    pause: Annotated[float, Field(ge=0, le=LONGEST_PAUSE)] = 0.0
    """Seconds after which to ask again, where there is no task."""
    at: Time
