"""The state of a run: its laws hold after every event, and a restart restores the live state."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from barnraise.core.signed import sign
from coordinator.reasons.recovery import EntryFile
from coordinator.store.events import Event, Journaled, Row, RunChartered
from coordinator.store.restoring import CopiesNeeded, Restoring
from coordinator.store.row_reader import find_charter
from coordinator.store.run_state import NEVER, RunState
from coordinator.store.transitions import apply
from tests.support import parts
from tests.support.run_walk import STEPS, MemoryBlobs, MemoryCopies, Walk, check_growth, check_laws, durable

CHARTER = sign(parts.AUTHORITY, parts.charter(parts.run_spec(), parts.state()))
EVERY_KIND = [
    (step, 0)
    for step in (
        "publish", "admit", "accept", "lose", "accept", "close", "save", "accept_late", "fold", "open",
        "write", "start_evaluation", "end_evaluation", "evaluate", "publish", "evaluate_late",
        "forget", "drop",
    )
]  # fmt: skip
"""A walk that takes each kind of event."""
walks = st.lists(st.tuples(st.sampled_from(list(STEPS)), st.integers(0, 11)), min_size=10, max_size=60)


def restarted(rows: Iterable[Row], blobs: MemoryBlobs) -> RunState:
    """The state after a restart from the journal and the blobs."""
    return Restoring(CHARTER, Path(), blobs, MemoryCopies(blobs, Path())).replay(rows)


def test_the_laws_hold_and_a_restart_restores_the_live_state() -> None:
    """Also asserts that the walks cover every kind of event."""
    covered: set[type[Any]] = set()

    @settings(max_examples=60)
    @given(walks)
    @example(EVERY_KIND)
    def walk(steps: list[tuple[str, int]]) -> None:
        made = Walk(CHARTER)
        run, rows = RunState.before_events(CHARTER), list[Row]()
        started: list[Event | None] = [
            made.write(run, 0),
            RunChartered(made.now(), CHARTER),
            made.open(run, 0),
        ]
        for event in started:
            assert event is not None
            run = step(run, event, rows)
        for name, choice in steps:
            taken = made.next_event(name, run, choice)
            run = step(run, taken, rows)
            covered.add(type(taken))
            assert durable(restarted(rows, made.blobs)) == durable(run)
        covered.update(type(event) for event in started)

    def step(run: RunState, event: Event, rows: list[Row]) -> RunState:
        after = apply(run, event)
        check_laws(after)
        check_growth(run, after)
        if isinstance(event, get_args(Journaled)):
            rows.append(event.row())
        return after

    walk()
    assert covered == {*get_args(Event)}


def test_before_any_event_a_run_is_at_its_genesis() -> None:
    run = RunState.before_events(CHARTER)
    check_laws(run)
    assert (run.round, run.opens, run.tip.state) == (0, NEVER, CHARTER.value.genesis)
    assert run.promotion() is None
    assert find_charter([], parts.AUTHORITY.public) is None


def test_a_state_cannot_be_changed() -> None:
    made = Walk(CHARTER)
    run = RunState.before_events(CHARTER)
    for step in ("write", "admit", "accept", "close"):
        event = made.event(step, run, 0)
        assert event is not None
        run = apply(run, event)
    with pytest.raises(FrozenInstanceError):
        run.replay_from = 3  # type: ignore[misc]
    for mapping in (
        run.checkpoints,
        run.claims,
        run.accepted,
        run.evaluations,
        run.scores,
        run.history.kept[0],
    ):
        with pytest.raises(TypeError):
            mapping[0] = None  # type: ignore[index]


def test_commits_of_closed_rounds_are_not_opened() -> None:
    """A restart checks each signature once: the close of the round holds the commit too."""
    made, run, rows = Walk(CHARTER), RunState.before_events(CHARTER), []
    for step in ("accept", "close", "accept"):
        event = made.event(step, run, 0)
        assert isinstance(event, get_args(Journaled))
        run = apply(run, event)
        rows.append(event.row())
    rows[0] = Row(rows[0].kind, rows[0].at, rows[0].round, b"damaged")
    assert durable(restarted(rows, made.blobs)) == durable(run)


def test_a_close_whose_blob_is_missing_is_an_error() -> None:
    made, run, rows = Walk(CHARTER), RunState.before_events(CHARTER), []
    for step in ("accept", "close"):
        event = made.event(step, run, 0)
        assert isinstance(event, get_args(Journaled))
        run = apply(run, event)
        rows.append(event.row())
    made.blobs.remove(run.log[0].name)
    with pytest.raises(CopiesNeeded) as caught:
        restarted(rows, made.blobs)
    assert caught.value.files == (EntryFile(run.log[0].name, 0, 0),)
