"""The words of what a restart finds damaged or missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from barnraise.core.ids import BlobHash
from coordinator.messages.recovery import recovery_message
from coordinator.reasons import recovery as reasons
from tests.support.parts import ADA, HASH_A, commit

CLOSE = reasons.EntryFile(BlobHash(HASH_A), 0, 3)
WEIGHTS = reasons.CheckpointFile(BlobHash(HASH_A), 4, "model.safetensors", 10)
WORK = reasons.ContributionFile(commit(ADA, round=2))


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (
            reasons.FileLost(CLOSE, Path("damaged/x"), reasons.TakenFromArchive()),
            "entry 3 of the log was damaged (its bytes are in damaged/x): taken from the archive",
        ),
        (
            reasons.FileLost(WEIGHTS, None, reasons.TakenFromMirror("https://m.example/x")),
            "model.safetensors of the checkpoint of round 4 is missing: taken from https://m.example/x",
        ),
        (
            reasons.FileLost(WORK, None, reasons.Unrecovered()),
            f"the contribution of {ADA.public[:8]} to round 2 is missing: neither the archive nor a mirror"
            " has it",
        ),
        (
            reasons.CheckpointGivenUp(4),
            "the checkpoint of round 4 is dropped; the state is computed from an older one",
        ),
        (
            reasons.FirstStateRecomputed(),
            "no checkpoint is intact: the state is computed from the base model and the whole log",
        ),
        (reasons.FetchedFromVolunteer(CLOSE), "entry 3 of the log was fetched from a volunteer"),
        (
            reasons.AwaitingVolunteers((CLOSE,)),
            "no archive has entry 3 of the log: waiting for volunteers that have it. --mirror with a"
            " copy of the archive, or `coordinator restore` from a backup, helps as well",
        ),
    ],
)
def test_what_a_restart_finds(reason: reasons.RecoveryReason, words: str) -> None:
    assert recovery_message(reason) == words
