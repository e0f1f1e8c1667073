"""Power cuts at every flush of the audits' ledger: no audit that was recorded is lost or counted twice."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from barnraise.contract.audit_report import AuditReport, AuditResult
from barnraise.core.signed import sign
from coordinator.audits.ledger import Ledger
from coordinator.audits.ledger_file import LedgerFile
from coordinator.store.run_state import RunState
from tests.crash.recorded_disk import RecordedDisk
from tests.support import parts
from tests.support.coordinators import opened_store

ROUNDS = 4


def report(round: int) -> AuditReport:
    result = AuditResult(
        key=parts.BEN.public, blob=parts.HASH_A, finding="tried", audited=True, change=1000, error=1,
        norm=1.0, alignment=0, taken=10**6,
    )  # fmt: skip
    return AuditReport(
        run=parts.RUN, round=round, base_state=parts.HASH_B, owner=parts.AUTHORITY.public,
        results=(result,), at=parts.NOW,
    )  # fmt: skip


@dataclass
class Promises:
    """What was recorded."""

    run: RunState
    ledgers: tuple[Ledger, ...]
    """After each number of rounds."""
    recorded: int = 0
    """Rounds."""
    secret: bytes | None = None

    def check(self, folder: Path) -> None:
        """Open what a power cut left in `folder`, and go on."""
        file = LedgerFile(folder / "audits")
        ledger = file.caught_up(self.run)
        rounds = ledger.newest + 1
        assert rounds in (self.recorded, self.recorded + 1)
        assert ledger == self.ledgers[rounds]
        if self.secret is not None:
            assert file.secret() == self.secret
        if rounds < ROUNDS:
            file.save(self.ledgers[rounds + 1], sign(parts.AUTHORITY, report(rounds)))
            assert file.caught_up(self.run) == self.ledgers[rounds + 1]
        shutil.rmtree(folder)


@pytest.mark.parametrize("has_earlier", [False, True])
def test_power_cuts_while_audits_are_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_earlier: bool
) -> None:
    """has_earlier: the file of reports is full, and begun again."""
    with opened_store(tmp_path / "run") as store:
        run = store.snapshot
    ledgers = [Ledger()]
    for round in range(ROUNDS):
        ledgers.append(ledgers[-1].after(report(round), {parts.BEN.public: run.standing(parts.BEN.public)}))
    assert ledgers[-1].by_key[parts.BEN.public].audited == ROUNDS
    promises = Promises(run, tuple(ledgers))
    root = tmp_path / "disk"
    root.mkdir()
    if has_earlier:
        monkeypatch.setattr("coordinator.audits.ledger_file.MAX_REPORTS_BYTES", 2000)
    disk = RecordedDisk(root, tmp_path / "scratch", promises.check, seeds=3)
    with disk.recording(monkeypatch):
        file = LedgerFile(root / "audits")
        promises.secret = file.secret()
        for round in range(ROUNDS):
            file.save(ledgers[round + 1], sign(parts.AUTHORITY, report(round)))
            promises.recorded = round + 1
    assert disk.states > 20
