"""The words about a run's length."""

from __future__ import annotations

import pytest

from barnraise.contract.schedule import OrderedDecay, Progress
from barnraise.contract.spec import RoundSpec, RunSpec, Schedule
from barnraise.contract.tip import Position
from barnraise.core.ids import BlobHash, Round
from coordinator.messages.length import NO_END, length_so_far, planned_length
from tests.support import parts


def spec(schedule: Schedule) -> RunSpec:
    planned = parts.scheduled(parts.run_spec(), schedule)
    return planned.model_copy(update={"round": RoundSpec(seconds=300)})


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (Schedule(), NO_END),
        (Schedule(warmup_rounds=1), f"{NO_END}; the learning rate rises over the first 1 round"),
        (
            Schedule(rounds=500, warmup_rounds=5),
            "500 rounds, 42 h of training; the learning rate rises over the first 5 rounds; the learning rate"
            " falls over the last 100 rounds",
        ),
        (Schedule(rounds=500, decay=0), "500 rounds, 42 h of training"),
        (Schedule(tokens=10**6), "1,000,000 tokens; the learning rate falls over the last 20%"),
        (
            Schedule(rounds=12, tokens=10**6, decay=0.5),
            "12 rounds, 60 min of training or 1,000,000 tokens; the learning rate falls over the last 50%",
        ),
    ],
)
def test_a_planned_length(schedule: Schedule, words: str) -> None:
    assert planned_length(spec(schedule)) == words


@pytest.mark.parametrize(
    ("schedule", "round", "progress", "words"),
    [
        (Schedule(), 7, Progress(), "round 7 is number 8; learning rate at 100%"),
        (Schedule(warmup_rounds=3), 0, Progress(), "round 0 is number 1; learning rate at 25%"),
        (Schedule(rounds=10), 9, Progress(), "round 9 is number 10 of 10 planned; learning rate at 33%"),
        (Schedule(rounds=10), 10, Progress(), "over after 10 rounds"),
        (
            Schedule(tokens=1000),
            7,
            Progress(tokens=900),
            "round 7 is number 8, 900 of 1,000 tokens count so far; learning rate at 50%",
        ),
        (
            Schedule(tokens=1000),
            7,
            Progress(tokens=900, decay=OrderedDecay(start=6, rounds=3)),
            "round 7 is number 8 of 9, and the last 3 decay, by its maintainer's order; learning rate at 50%",
        ),
        (Schedule(), 1, Progress(decay=OrderedDecay(start=0, rounds=1)), "over after 1 round"),
    ],
)
def test_how_far_a_run_is(schedule: Schedule, round: int, progress: Progress, words: str) -> None:
    position = Position(Round(round), BlobHash(parts.HASH_A), progress=progress)
    assert length_so_far(position, spec(schedule)) == words
