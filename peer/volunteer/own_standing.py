"""What an entry of the log says about this volunteer's own key: pure."""

from __future__ import annotations

from barnraise.contract.log_entries import Entry, changes_of
from barnraise.core.errors import KeyBanned
from barnraise.core.ids import PublicKey


def check_not_banned(entry: Entry, own: PublicKey) -> None:
    """Raises KeyBanned, which ends the program, where the entry bans the key."""
    for change in changes_of(entry):
        if change.key == own and change.level == "banned":
            why = f": {change.note}" if change.note else ""
            raise KeyBanned(
                f"this run has banned your key{why}",
                fix="If that is a mistake, ask the run's maintainer, who can lift it.",
            )
