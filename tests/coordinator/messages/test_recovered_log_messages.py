"""The words of what a start finds of the run's log."""

from __future__ import annotations

from pathlib import Path

import pytest

from barnraise.core.ids import PublicKey
from coordinator.messages.recovered_log import log_message
from coordinator.reasons import recovered_log as reasons

RUN = Path("run")


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (reasons.JournalSalvaged("row 12 has changed", 11), "row 12 has changed: its first 11 rows are kept"),
        (reasons.JournalOlder(RUN), "the journal in run is older than the archive next to it"),
        (reasons.NewRunIgnored(RUN), "--new-run is ignored: run has a complete run, which goes on"),
        (reasons.RunSetAside(RUN, Path("old")), "the run that was in run is now in old"),
        (reasons.OwnArchiveUnused(RUN, "no index"), "the archive in run is not used: no index"),
        (reasons.AskingVolunteers(60.0), "asking the run's volunteers for their log, for up to 60 s"),
        (reasons.NoLogHeld(), "no volunteer that is here holds the log"),
        (reasons.LogUnusable(8, "it is void"), "a log of 8 entries cannot be used: it is void"),
        (
            reasons.LogFound(None, 7, taken=3, replaced=1),
            "the volunteers hold the log up to round 7: 3 entries taken, 1 of ours replaced",
        ),
        (
            reasons.LogFound("https://m.example", 7, taken=3, replaced=0),
            "https://m.example has the log up to round 7: 3 entries taken, 0 of ours replaced",
        ),
        (
            reasons.RunResumed(7, 1),
            "the run resumes with round 7 in epoch 1: what the journal did not know of later rounds is void",
        ),
        (
            reasons.KeyReplaced(PublicKey("ab" * 32), PublicKey("cd" * 32)),
            "the run key is cdcdcdcd from now on: what abababab signs after this is void",
        ),
    ],
)
def test_what_is_found_of_the_log(reason: reasons.LogReason, words: str) -> None:
    assert log_message(reason) == words
