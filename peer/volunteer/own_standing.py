"""What an entry of the log says about this volunteer's own key: pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from barnraise.contract.audit_figures import Figures
from barnraise.contract.evidence import TOLERANCE
from barnraise.contract.log_entries import Change, Entry, changes_of
from barnraise.contract.standing import Level, Standings
from barnraise.contract.verdict import Verdict
from barnraise.core.errors import KeyBanned, TrustError
from barnraise.core.ids import PublicKey
from barnraise.core.reason import Reason
from barnraise.core.signed import open_text

LAST = 5
"""Audited contributions that a notice counts."""


@dataclass(frozen=True)
class OwnStanding(Reason):
    """The log gives our key another standing."""

    level: Level
    by_order: bool
    """Of the maintainer; else audits are the cause."""
    note: str = ""
    figures: tuple[Figures, ...] = ()
    """The newest audits of our contributions, where they are the cause."""

    @property
    def harmful(self) -> int:
        """How many of these did harm."""
        return sum(each.score > TOLERANCE for each in self.figures)


@dataclass
class OwnStandingReader:
    """Reads each entry of the log for our key, once: at a rollback, before entries are passed over."""

    own: PublicKey
    notify: Callable[[OwnStanding], None]
    _height: int = -1
    """Of the newest entry that was read."""

    def read(self, entry: Entry, newest: Standings) -> None:
        """Show what an entry says of our key. Raises KeyBanned, unless a later entry has lifted the ban.

        newest: at the end of the log, as far as it is known.
        """
        lifted = not newest.bans(self.own) and any(
            change.key == self.own and change.level == "banned" for change in changes_of(entry)
        )
        if entry.height > self._height and not lifted:
            self._height = entry.height
            if (found := own_standing(entry, self.own)) is not None:
                self.notify(found)


def own_standing(entry: Entry, own: PublicKey) -> OwnStanding | None:
    """What an entry changes for our key. Raises KeyBanned, which ends the program, where it bans it."""
    change = next((each for each in changes_of(entry) if each.key == own), None)
    if change is None or change.cause == "work":
        return None
    found = OwnStanding(change.level, change.cause != "audit", change.note, _figures(change)[-LAST:])
    if found.level == "banned":
        why = f": {found.note}" if found.note else _why(found)
        raise KeyBanned(
            f"this run has banned your key{why}",
            fix="If that is a mistake, ask the run's maintainer, who can lift it.",
        )
    return found


def _why(found: OwnStanding) -> str:
    if found.by_order:
        return ""
    return f": {found.harmful} of its last {len(found.figures)} audited contributions did harm"


def _figures(change: Change) -> tuple[Figures, ...]:
    try:
        return open_text(Verdict, change.verdict or "", signer=None).value.figures
    except TrustError:  # `peer verify` reports it
        return ()
