"""The maintainer's view of verdicts: the entries of the log that changed standings by audits."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from barnraise.contract.audit_figures import MILLION, NANO, Figures
from barnraise.contract.evidence import UNIT
from barnraise.contract.log_entries import Change, NeedsNewer, changes_of, parse_entry
from barnraise.contract.verdict import Verdict
from barnraise.core.errors import TrustError, UserError
from barnraise.core.ids import PublicKey, short
from barnraise.core.signed import open_text
from barnraise.runtime.plain_console import PlainConsole

LOG = "log"


@dataclass(frozen=True)
class Decision:
    """One change of standing by audits."""

    round: int
    change: Change
    verdict: Verdict


def read_changes(archive: Path) -> list[Decision]:
    """The decisions in an archive's log, oldest first. Raises UserError where there is no log."""
    files = sorted((archive / LOG).glob("*/*.entry"), key=lambda file: (int(file.parent.name), file.name))
    if not files:
        raise UserError(
            f"{archive} has no log yet", fix="Give the name or the folder of a run of this machine."
        )
    return [decision for file in files for decision in _decisions(file)]


def _decisions(file: Path) -> list[Decision]:
    try:
        entry = parse_entry(file.read_bytes())
        if isinstance(entry, NeedsNewer):
            return []
        return [
            Decision(entry.round, change, open_text(Verdict, change.verdict, signer=None).value)
            for change in changes_of(entry)
            if change.verdict is not None
        ]
    except TrustError:  # `peer verify` reports it
        return []


def render(decisions: Sequence[Decision]) -> str:
    """Plain text, 110 columns wide."""
    if not decisions:
        return "no key was suspended by audits"
    return "\n\n".join(map(_render, decisions))


def _render(decision: Decision) -> str:
    change, verdict = decision.change, decision.verdict
    table = Table(box=None, pad_edge=False)
    columns = "round", "contribution", "change of the loss", "usual", "cosine", "usual", "score", "finding"
    for column in columns:
        table.add_column(column)
    for each in verdict.figures:
        table.add_row(*_row(each))
    text = io.StringIO()
    PlainConsole(file=text, width=110, force_terminal=False).print(table)
    odds = f"{verdict.account.wealth:,.0f} to 1" if verdict.follows else "not proved by its figures"
    return (
        f"{short(PublicKey(change.key))} is {change.level} since round {decision.round}:"
        f" {verdict.claim}, {odds}\n{text.getvalue().rstrip()}"
    )


def _row(figures: Figures) -> tuple[str, ...]:
    change = f"{figures.change / NANO:+.4f} ± {figures.error / NANO:.4f}"
    return (
        str(figures.round),
        figures.blob[:8],
        change,
        f"{figures.usual / NANO:+.4f}",
        f"{figures.alignment / MILLION:+.3f}",
        f"{figures.usual_alignment / MILLION:+.3f}",
        f"{figures.score / UNIT:.2f}",
        figures.finding,
    )
