"""The ledger on disk, and the reports that led to it.

The ledger is no part of the run's log: what follows from it is, with the figures. So a ledger that is lost
loses evidence, and no decision. A report is flushed before the ledger has what follows from it: after a power
cut between the two, and where the ledger is damaged, `caught_up` adds the reports that it lacks.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from pydantic import Field, ValidationError

from barnraise.contract.audit_figures import Figures
from barnraise.contract.audit_report import AuditReport
from barnraise.contract.audit_task import AuditCall, Disagreement
from barnraise.contract.evidence import Account, Claim
from barnraise.contract.standing import Level
from barnraise.core.errors import TrustError
from barnraise.core.ids import PublicKey
from barnraise.core.signed import Signed, open_text
from barnraise.core.strict import Hex64, Strict
from barnraise.runtime.damaged import DAMAGED, DamagedFiles
from barnraise.runtime.files import disk_errors, flush, make_folder, write_atomic
from coordinator.audits.ledger import Changes, Evidence, Ledger
from coordinator.run_folder import AUDIT_LEDGER, AUDIT_SECRET
from coordinator.store.run_state import RunState

log = logging.getLogger("coordinator")

LEDGER, SECRET = Path(AUDIT_LEDGER).name, Path(AUDIT_SECRET).name
REPORTS, CALLS, SKETCHES = "reports.jsonl", "auditors.jsonl", "sketches.safetensors"
MAX_REPORTS_BYTES = 64 * 2**20
"""Of the file of reports, and of that of auditors' calls: then it is begun again, and the earlier one is kept
next to it."""
SECRET_BYTES = 32


class _SavedEvidence(Strict):
    level: Level
    work: int
    figures: tuple[Figures, ...]
    before: dict[Claim, tuple[float, float]]
    audited: int
    opposed: bool
    auditors: tuple[Hex64, ...] = ()


class _SavedLedger(Strict):
    keys: dict[Hex64, _SavedEvidence]
    recent: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]
    newest: int
    wrong: dict[Hex64, Disagreement] = Field(default_factory=dict)


@dataclass(frozen=True)
class LedgerFile:
    """The folder of a run's audits. Slow: called in a thread."""

    folder: Path

    def secret(self) -> bytes:
        """What draws audits and samples; nobody else may know it. Raises DiskFull."""
        file = self.folder / SECRET
        if not file.is_file() or len(found := file.read_bytes()) != SECRET_BYTES:
            make_folder(self.folder)
            found = secrets.token_bytes(SECRET_BYTES)
            write_atomic(file, found, mode=0o600)
        return found

    @property
    def sketches(self) -> Path:
        """The file of sketches of earlier contributions."""
        return self.folder / SKETCHES

    def load(self) -> Ledger:
        """The ledger; an empty one where there is none, or where it is damaged and was set aside."""
        file = self.folder / LEDGER
        try:
            return _ledger_of(_SavedLedger.model_validate_json(file.read_bytes()))
        except FileNotFoundError:
            return Ledger()
        except ValidationError:
            aside = DamagedFiles(self.folder / DAMAGED).set_aside(file)
            log.error("%s is damaged and set aside as %s: audits begin again", file, aside)
            return Ledger()

    def save(
        self, ledger: Ledger, report: Signed[AuditReport], call: Signed[AuditCall] | None = None
    ) -> None:
        """Keep a report and what it led to. call: of the auditor that it rests on. Raises DiskFull."""
        if call is not None:
            _append(self.folder / CALLS, call.text)
        _append(self.folder / REPORTS, report.text)
        self.save_ledger(ledger)

    def save_ledger(self, ledger: Ledger) -> None:
        """Raises DiskFull."""
        write_atomic(self.folder / LEDGER, _saved(ledger).model_dump_json().encode())

    def caught_up(self, run: RunState) -> Ledger:
        """The ledger with the reports that it lacks."""
        ledger = self.load()
        # Where all are lacking, nothing says which came after the log changed a key's level, nor which
        # auditors were found wrong.
        is_whole = ledger.newest >= 0
        named = () if is_whole else tuple(run.position.standings)
        for report in self._reports():
            counts = is_whole or report.auditor is None
            results = tuple(each for each in report.results if counts and each.key not in named)
            if results and report.run == run.charter.run:
                standings = {PublicKey(each.key): run.standing(PublicKey(each.key)) for each in results}
                ledger = ledger.after(report.model_copy(update={"results": results}), standings)
        return ledger

    def _reports(self) -> Iterator[AuditReport]:
        """Those in the file, oldest first; a line that a power cut left incomplete is none."""
        file = self.folder / REPORTS
        if not file.exists():
            return
        for line in file.read_text(encoding="ascii", errors="replace").splitlines():
            try:
                yield open_text(AuditReport, line, signer=None).value
            except TrustError:
                log.warning("a line of %s is damaged and left out", file)


def _append(file: Path, line: str) -> None:
    """Add a line, durably, after one that a power cut left incomplete. Raises DiskFull."""
    with disk_errors(file):
        make_folder(file.parent)
        if file.is_file() and file.stat().st_size > MAX_REPORTS_BYTES:
            os.replace(file, file.with_suffix(".earlier.jsonl"))
        is_new = not file.exists()
        with file.open("ab+") as lines:
            if lines.tell():
                lines.seek(-1, os.SEEK_END)
                if lines.read(1) != b"\n":
                    lines.write(b"\n")
            lines.write(f"{line}\n".encode("ascii"))
        flush(file)
        if is_new:
            flush(file.parent)


def _saved(ledger: Ledger) -> _SavedLedger:
    return _SavedLedger(
        keys={
            str(key): _SavedEvidence(
                level=evidence.level,
                work=evidence.work,
                figures=evidence.figures,
                before={claim: (each.wealth, each.recent) for claim, each in evidence.before.items()},
                audited=evidence.audited,
                opposed=evidence.opposed,
                auditors=tuple(sorted(evidence.auditors)),
            )
            for key, evidence in ledger.by_key.items()
        },
        recent=tuple((each.trusted, each.others) for each in ledger.recent),
        newest=ledger.newest,
        wrong={str(key): each for key, each in ledger.wrong.items()},
    )


def _ledger_of(saved: _SavedLedger) -> Ledger:
    by_key = {
        PublicKey(key): Evidence(
            each.level,
            each.work,
            each.figures,
            MappingProxyType({claim: Account(*pair) for claim, pair in each.before.items()}),
            each.audited,
            each.opposed,
            frozenset(map(PublicKey, each.auditors)),
        )
        for key, each in saved.keys.items()
    }
    wrong = MappingProxyType({PublicKey(key): each for key, each in saved.wrong.items()})
    recent = tuple(Changes(*each) for each in saved.recent)
    return Ledger(MappingProxyType(by_key), recent, saved.newest, wrong)
