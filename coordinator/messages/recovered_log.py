"""Renders what a start of `coordinator serve` finds of the run's log."""

from __future__ import annotations

from typing_extensions import assert_never

from barnraise.core.ids import short
from coordinator.reasons import recovered_log as reasons


def log_message(reason: reasons.LogReason) -> str:
    """One line of the log."""
    match reason:
        case (
            reasons.JournalSalvaged()
            | reasons.JournalOlder()
            | reasons.NewRunIgnored()
            | reasons.RunSetAside()
        ):
            return _folder_message(reason)
        case reasons.OwnArchiveUnused(folder, problem):
            return f"the archive in {folder} is not used: {problem}"
        case reasons.AskingVolunteers(seconds):
            return f"asking the run's volunteers for their log, for up to {seconds:.0f} s"
        case reasons.NoLogHeld():
            return "no volunteer that is here holds the log"
        case reasons.LogUnusable(entries, problem):
            return f"a log of {entries} entries cannot be used: {problem}"
        case reasons.LogFound(location, round, taken, replaced):
            holder = "the volunteers hold" if location is None else f"{location} has"
            return f"{holder} the log up to round {round}: {taken} entries taken, {replaced} of ours replaced"
        case reasons.RunResumed(round, epoch):
            return (
                f"the run resumes with round {round} in epoch {epoch}: what the journal did not know of later"
                " rounds is void"
            )
        case reasons.KeyReplaced(before, now):
            return f"the run key is {short(now)} from now on: what {short(before)} signs after this is void"
        case _:
            assert_never(reason)


def _folder_message(reason: reasons.FolderReason) -> str:
    match reason:
        case reasons.JournalSalvaged(problem, rows):
            return f"{problem}: its first {rows} rows are kept"
        case reasons.JournalOlder(folder):
            return f"the journal in {folder} is older than the archive next to it"
        case reasons.NewRunIgnored(folder):
            return f"--new-run is ignored: {folder} has a complete run, which goes on"
        case reasons.RunSetAside(folder, aside):
            return f"the run that was in {folder} is now in {aside}"
        case _:
            assert_never(reason)
