"""Renders what a restart finds damaged or missing, and what becomes of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from typing_extensions import assert_never

from barnraise.core.ids import PublicKey, short
from coordinator.reasons import recovery as reasons

MOST_NAMED = 4
"""Files that one message names: an old copy of a run's folder may lack thousands."""


def recovery_message(reason: reasons.RecoveryReason) -> str:
    """One line of the log."""
    match reason:
        case reasons.FileLost(file, aside, outcome):
            return f"{file_message(file)} {_was(aside)}: {_outcome(outcome)}"
        case reasons.CheckpointGivenUp(round, averaged=True):
            return f"the mean of states up to round {round} is dropped: the run does not need it"
        case reasons.CheckpointGivenUp(round):
            return f"the checkpoint of round {round} is dropped: its state follows from the log"
        case reasons.OlderContributionsGivenUp(round):
            return (
                f"contributions to rounds before {round} are lost: the run goes on, and its log can be"
                f" replayed from the checkpoint of round {round} on"
            )
        case reasons.OwnFileRestored(file, aside):
            return f"{file} {_was(aside)}: taken from the newest checkpoint"
        case (
            reasons.FirstStateRecomputed()
            | reasons.AwaitingState()
            | reasons.StateFetched()
            | reasons.StateTaken()
        ):
            return _state_message(reason)
        case reasons.FetchedFromVolunteer(file):
            return f"{file_message(file)} was fetched from a volunteer"
        case reasons.AwaitingVolunteers(files):
            return (
                f"no archive has {files_message(files)}: waiting for volunteers that have it."
                " --mirror with a copy of the archive, or `coordinator restore` from a backup, helps as well"
            )
        case _:
            assert_never(reason)


def _state_message(reason: reasons.StateReason) -> str:
    match reason:
        case reasons.FirstStateRecomputed():
            return "no checkpoint is intact: the state is computed from the base model and the whole log"
        case reasons.AwaitingState():
            return (
                "no checkpoint is intact: waiting for a volunteer that has a state which the log names."
                " --mirror with a copy of the archive, or `coordinator restore` from a backup, helps as well"
            )
        case reasons.StateFetched(round):
            return f"the state of round {round} was fetched from volunteers: the log names it"
        case reasons.StateTaken(round):
            return (
                f"what leads to round {round} is lost: the run goes on from the state of round {round} that"
                " volunteers hold, which is the one that the log names"
            )
        case _:
            assert_never(reason)


def data_message(reason: reasons.DataReason) -> str:
    """One line of the log about the prepared data."""
    match reason:
        case reasons.DataDamaged(shards, held_out, index):
            parts = [f"{shards} shards"] * bool(shards) + [f"{held_out} held-out shards"] * bool(held_out)
            lost = " and ".join([*parts, *["an index"] * index])
            return f"prepared data is damaged or missing ({lost}): building it from the dataset again"
        case reasons.DataRebuilt():
            return "the prepared data is complete again"
        case reasons.DataChanged():
            return "the dataset has changed since the run began, so it does not give the missing data"
        case reasons.DataNotRebuilt(problem):
            return f"the dataset cannot be built, so it does not give the missing data: {problem}"
        case reasons.AwaitingShards(count):
            return (
                f"{count} shards are missing: they are fetched from volunteers that have them, while the run"
                " goes on"
            )
        case reasons.ShardsFetched():
            return "all shards are here again"
        case _:
            assert_never(reason)


def files_message(files: Sequence[reasons.RunFile]) -> str:
    """What some files of the run are."""
    more = [f"{len(files) - MOST_NAMED} more"] * (len(files) > MOST_NAMED)
    return ", ".join([*map(file_message, files[:MOST_NAMED]), *more])


def file_message(file: reasons.RunFile) -> str:
    """What a file of the run is."""
    match file:
        case reasons.EntryFile(_, _, height):
            return f"entry {height} of the log"
        case reasons.ContributionFile(commit):
            return f"the contribution of {short(PublicKey(commit.owner))} to round {commit.round}"
        case reasons.OlderContribution(name, round):
            return f"the contribution {short(name)} to round {round}"
        case reasons.CheckpointFile(_, round, name, averaged=averaged):
            of = "the mean of states up to" if averaged else "the checkpoint of"
            return f"{name} of {of} round {round}"
        case _:
            assert_never(file)


def _was(aside: Path | None) -> str:
    return "is missing" if aside is None else f"was damaged (its bytes are in {aside})"


def _outcome(outcome: reasons.CopyOutcome) -> str:
    match outcome:
        case reasons.TakenFromJournal():
            return "taken from the journal"
        case reasons.TakenFromArchive():
            return "taken from the archive"
        case reasons.TakenFromMirror(url):
            return f"taken from {url}"
        case reasons.Unrecovered():
            return "neither the archive nor a mirror has it"
        case _:
            assert_never(outcome)
