"""The words of what a restart finds damaged or missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from barnraise.core.ids import BlobHash
from coordinator.messages.recovery import data_message, recovery_message
from coordinator.reasons import recovery as reasons
from tests.support.parts import ADA, HASH_A, commit

CLOSE = reasons.EntryFile(BlobHash(HASH_A), 0, 3)
WEIGHTS = reasons.CheckpointFile(BlobHash(HASH_A), 4, "model.safetensors", 10)
OLDER = reasons.OlderContribution(BlobHash(HASH_A), 3, 10)
WORK = reasons.ContributionFile(commit(ADA, round=2))


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (
            reasons.FileLost(CLOSE, Path("damaged/x"), reasons.TakenFromArchive()),
            "entry 3 of the log was damaged (its bytes are in damaged/x): taken from the archive",
        ),
        (
            reasons.FileLost(CLOSE, None, reasons.TakenFromJournal()),
            "entry 3 of the log is missing: taken from the journal",
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
            "the checkpoint of round 4 is dropped: its state follows from the log",
        ),
        (
            reasons.FirstStateRecomputed(),
            "no checkpoint is intact: the state is computed from the base model and the whole log",
        ),
        (
            reasons.FileLost(OLDER, None, reasons.TakenFromArchive()),
            f"the contribution {HASH_A[:8]} to round 3 is missing: taken from the archive",
        ),
        (
            reasons.OwnFileRestored("chat_template.jinja", Path("damaged/x")),
            "chat_template.jinja was damaged (its bytes are in damaged/x): taken from the newest checkpoint",
        ),
        (
            reasons.OlderContributionsGivenUp(4),
            "contributions to rounds before 4 are lost: the run goes on, and its log can be replayed from the"
            " checkpoint of round 4 on",
        ),
        (
            reasons.AwaitingState(),
            "no checkpoint is intact: waiting for a volunteer that has a state which the log names. --mirror"
            " with a copy of the archive, or `coordinator restore` from a backup, helps as well",
        ),
        (reasons.StateFetched(4), "the state of round 4 was fetched from volunteers: the log names it"),
        (
            reasons.StateTaken(4),
            "what leads to round 4 is lost: the run goes on from the state of round 4 that volunteers hold,"
            " which is the one that the log names",
        ),
        (reasons.FetchedFromVolunteer(CLOSE), "entry 3 of the log was fetched from a volunteer"),
        (
            reasons.AwaitingVolunteers((CLOSE,) * 9),
            "no archive has entry 3 of the log, entry 3 of the log, entry 3 of the log, entry 3 of the log,"
            " 5 more: waiting for volunteers that have it. --mirror with a copy of the archive, or"
            " `coordinator restore` from a backup, helps as well",
        ),
        (
            reasons.AwaitingVolunteers((CLOSE,)),
            "no archive has entry 3 of the log: waiting for volunteers that have it. --mirror with a"
            " copy of the archive, or `coordinator restore` from a backup, helps as well",
        ),
    ],
)
def test_what_a_restart_finds(reason: reasons.RecoveryReason, words: str) -> None:
    assert recovery_message(reason) == words


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (
            reasons.DataDamaged(shards=3, held_out=1, index=False),
            "prepared data is damaged or missing (3 shards and 1 held-out shards): building it from the"
            " dataset again",
        ),
        (
            reasons.DataDamaged(shards=0, held_out=0, index=True),
            "prepared data is damaged or missing (an index): building it from the dataset again",
        ),
        (reasons.DataRebuilt(), "the prepared data is complete again"),
        (
            reasons.DataChanged(),
            "the dataset has changed since the run began, so it does not give the missing data",
        ),
        (
            reasons.DataNotRebuilt("no file"),
            "the dataset cannot be built, so it does not give the missing data: no file",
        ),
        (
            reasons.AwaitingShards(2),
            "2 shards are missing: they are fetched from volunteers that have them, while the run goes on",
        ),
        (reasons.ShardsFetched(), "all shards are here again"),
    ],
)
def test_what_becomes_of_damaged_data(reason: reasons.DataReason, words: str) -> None:
    assert data_message(reason) == words
