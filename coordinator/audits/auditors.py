"""The auditors that ask for work: whose call waits for a round, who has one, and who answered.

Only a key whose call waits is given a round, so an auditor that is away delays nothing. One that does not
answer in time is left out for a number of rounds that doubles each time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from random import Random, SystemRandom

from barnraise.contract.audit_task import AuditCall, AuditTask, Taken
from barnraise.core.ids import PublicKey
from barnraise.core.signed import Signed

LONGEST_LEFT_OUT = 64
"""Rounds for which an auditor that does not answer is left out at most."""


@dataclass(frozen=True)
class Record:
    """What an auditor did since this program started."""

    answered: int = 0
    """Rounds."""
    missed: int = 0
    """Rounds in a row that it did not answer in time."""
    left_out: int = 0
    """Rounds for which it is not asked."""

    def after(self, *, answered: bool) -> Record:
        """With one more round that it was given."""
        if answered:
            return Record(self.answered + 1)
        return Record(self.answered, self.missed + 1, min(LONGEST_LEFT_OUT, 2**self.missed))


@dataclass(frozen=True)
class _Given:
    key: PublicKey
    task: AuditTask
    report: asyncio.Future[Signed[AuditCall] | None]
    """None where the auditor cannot do it."""


@dataclass
class Auditors:
    """Of one coordinator. At most one auditor has a round at a time."""

    hold: float
    """Seconds for which a call waits for a round."""
    _random: Random = field(default_factory=SystemRandom)
    _waiting: dict[PublicKey, asyncio.Future[AuditTask | None]] = field(default_factory=dict)
    _given: _Given | None = None
    _records: dict[PublicKey, Record] = field(default_factory=dict)
    """Of keys that were vouched for."""

    @property
    def records(self) -> Mapping[PublicKey, Record]:
        """By auditor: a copy, for other threads."""
        return self._records.copy()

    def of(self, key: PublicKey) -> Record:
        """What an auditor did."""
        return self._records.get(key, Record())

    def next(self, may_audit: Callable[[PublicKey], bool]) -> PublicKey | None:
        """Who gets the round that was just closed; None where no call waits of a key that may audit now: a
        call may wait while the log takes its key's trust away.
        """
        for key, record in self._records.items():
            self._records[key] = replace(record, left_out=max(0, record.left_out - 1))
        ready = sorted(key for key in self._waiting if not self.of(key).left_out and may_audit(key))
        return self._random.choice(ready) if ready else None

    async def tried(self, key: PublicKey, task: AuditTask, seconds: float) -> Signed[AuditCall] | None:
        """Give a round to an auditor; its call with the report, or None where none comes within `seconds`."""
        report = asyncio.get_running_loop().create_future()
        self._given = _Given(key, task, report)
        self._hand(key, task)
        try:
            await asyncio.wait([report], timeout=seconds)
            found = report.result() if report.done() else None
        finally:
            self._given = None
        self._records[key] = self.of(key).after(answered=found is not None)
        return found

    async def call(self, call: Signed[AuditCall]) -> tuple[Taken, AuditTask | None]:
        """What becomes of a call's report, and the round that its key gets, if one comes in time."""
        taken, key = self.take(call), call.signer
        self._records.setdefault(key, Record())
        if not call.value.asks:
            return taken, None
        given = self._given
        if given is not None and given.key == key and not given.report.done():
            return taken, given.task  # the answer to an earlier call was lost
        waiting = asyncio.get_running_loop().create_future()
        self._hand(key, None)  # of two calls of one key the newer one waits
        self._waiting[key] = waiting
        try:
            await asyncio.wait([waiting], timeout=self.hold)
        finally:
            if self._waiting.get(key) is waiting:
                del self._waiting[key]
        return taken, waiting.result() if waiting.done() else None

    def take(self, call: Signed[AuditCall]) -> Taken:
        """Take the report in a call, which ends the wait for it."""
        given, report, cannot = self._given, call.value.report, call.value.cannot
        is_theirs = given is not None and given.key == call.signer and not given.report.done()
        if given is None or not is_theirs:
            return "none" if report is None else "late"
        if report is not None and report.answers(given.task):
            given.report.set_result(call)
            return "counted"
        if report is not None or cannot == given.task.round:
            given.report.set_result(None)
        return "none" if report is None else "another"

    def _hand(self, key: PublicKey, task: AuditTask | None) -> None:
        waiting = self._waiting.pop(key, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(task)
