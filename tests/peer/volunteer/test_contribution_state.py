"""The table of a contribution: each transition, the laws, and that no work is lost or counted twice."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import peer.volunteer.contribution_state as module
from barnraise.contract.records import blob_name
from barnraise.contract.spec import AdamW, RunSpec
from barnraise.contract.tip import Position, Tip, genesis_tip
from barnraise.core.errors import DiskFull
from barnraise.core.ids import BlobHash, Round
from barnraise.fold.log import Link
from barnraise.runtime.blob_store import BlobStore
from peer.training.trainer import Update
from peer.volunteer.contribution import ContributionStore
from peer.volunteer.contribution_state import (
    AFTER_CRASH,
    TRANSITIONS,
    ContributionLifecycle,
    IllegalTransition,
    advance,
)
from peer.volunteer.contribution_state import ContributionEvent as Event
from peer.volunteer.contribution_state import ContributionState as State
from peer.volunteer.saved_state import SavedState, SavedWork, Unchanged
from tests.support import parts

ENTRIES = {(state, event) for state, row in TRANSITIONS.items() for event in row}


class Model:
    """One volunteer as amounts of work in each place, driven by the table alone."""

    def __init__(self) -> None:
        self.state, self.round = State.TRAINING, 0
        self.trained = self.lost = 0
        self.ahead = self.update = self.blob = self.folded = self.missed = self.residual = 0
        self.saved = False
        """The contribution is on disk."""
        self.taken_in: list[int] = []
        self.entries: set[tuple[State, Event]] = set()

    def train(self) -> None:
        self.trained += 3
        self.ahead += 3

    def put_aside(self) -> None:
        """Leaving changes no state."""
        self.residual, self.ahead = self.residual + self.ahead, 0

    def happen(self, event: Event) -> None:
        before, self.state = self.state, advance(self.state, event)
        self.entries.add((before, event))
        getattr(self, f"_{event.value}")()

    def crash(self, after: State) -> None:
        """The program starts again in `after`, with what is on disk."""
        assert after in AFTER_CRASH[self.state]
        self.lost += self.ahead
        self.ahead = 0
        match self.state:
            case State.TAKEN if after is State.TRAINING:
                self.lost, self.update = self.lost + self.update, 0
            case State.TAKEN:
                self._sign()
            case State.PENDING if after is State.TRAINING:
                self._give_up()
            case State.LISTED if after is State.PENDING:
                self.blob, self.folded = self.listed, self.folded - self.listed
            case State.MISSED:
                self.residual, self.missed = self.residual + self.missed, 0
        self.state = State.TRAINING
        if after is State.PENDING:
            self.happen(Event.RESUME)

    def check(self) -> None:
        places = (self.ahead, self.update, self.blob, self.folded, self.missed, self.residual, self.lost)
        assert sum(places) == self.trained
        assert min(places) >= 0
        assert (self.update > 0) == (self.state is State.TAKEN)
        assert (self.blob > 0) == (self.state is State.PENDING)
        assert (self.missed > 0) == (self.state is State.MISSED)
        assert self.saved or self.state is not State.PENDING
        assert self.state.taken or not (self.update or self.blob or self.missed)

    def _take(self) -> None:
        self.taken_in.append(self.round)
        self.update, self.ahead, self.residual = self.ahead + self.residual + 2, 0, 0
        self.trained += 2  # so that each contribution has some

    def _sign(self) -> None:
        self.blob, self.update, self.saved = self.update - 1, 0, True
        self.residual += 1  # what compression left out

    def _list(self) -> None:
        self.listed = self.blob
        self.folded, self.blob = self.folded + self.blob, 0

    def _miss(self) -> None:
        self.missed, self.blob = self.blob, 0

    def _owe(self) -> None:
        self.residual, self.blob = self.residual + self.blob, 0

    def _give_up(self) -> None:
        self.lost, self.blob = self.lost + self.blob, 0

    def _rebase(self) -> None:
        self.ahead, self.missed = self.ahead + self.missed, 0
        self.round, self.saved = self.round + 1, False

    def _resume(self) -> None:
        """The blob is on disk."""


class Lives(RuleBasedStateMachine):
    """Any order of legal events, crashes and departures."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()

    @rule()
    def trains(self) -> None:
        self.model.train()

    @rule()
    def leaves(self) -> None:
        self.model.put_aside()

    @rule(data=st.data())
    def advances(self, data: st.DataObject) -> None:
        self.model.happen(data.draw(st.sampled_from(legal(self.model))))

    @rule(data=st.data())
    def crashes(self, data: st.DataObject) -> None:
        after = data.draw(st.sampled_from(restarts(self.model)))
        self.model.crash(after)

    @rule(event=st.sampled_from(Event))
    def an_event_that_the_table_lacks_is_an_error(self, event: Event) -> None:
        state = self.model.state
        if event not in TRANSITIONS[state]:
            with pytest.raises(IllegalTransition):
                advance(state, event)

    @invariant()
    def all_work_is_in_one_place(self) -> None:
        self.model.check()


def legal(model: Model) -> list[Event]:
    """RESUME happens only at the start of the program."""
    return [event for event in TRANSITIONS[model.state] if event is not Event.RESUME]


def restarts(model: Model) -> list[State]:
    """Where the program can start again. Before a contribution is taken only the newest save is modelled."""
    if model.state in (State.TRAINING, State.CARRYING):
        return [State.TRAINING]
    return sorted(AFTER_CRASH[model.state], key=lambda state: state.value)


Lives.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestLives = Lives.TestCase


def test_a_walk_takes_every_entry_of_the_table() -> None:
    model, random = Model(), Random(1)
    for _ in range(2000):
        match random.randrange(5):
            case 0:
                model.crash(random.choice(restarts(model)))
            case 1:
                model.train()
            case _:
                model.happen(random.choice(legal(model)))
        model.check()
    assert model.entries == ENTRIES


@pytest.mark.parametrize(("state", "event"), [(state, event) for state in State for event in Event])
def test_the_table_is_all_that_happens(state: State, event: Event) -> None:
    lifecycle = ContributionLifecycle(state)
    if (state, event) in ENTRIES:
        lifecycle.advance(event)
        assert lifecycle.state == TRANSITIONS[state][event]
        return
    with pytest.raises(IllegalTransition, match=f"{state.name} cannot {event.name}"):
        lifecycle.advance(event)
    assert lifecycle.state == state


def test_one_contribution_is_taken_between_two_rebases() -> None:
    """From TAKE on, no path leads to another TAKE except through REBASE."""
    seen, ahead = set(), {State.TAKEN}
    while ahead:
        state = ahead.pop()
        seen.add(state)
        steps = {after for event, after in TRANSITIONS[state].items() if event is not Event.REBASE}
        ahead |= steps - seen
    assert all(Event.TAKE not in TRANSITIONS[state] for state in seen)
    assert all(state.taken for state in seen)


@pytest.mark.parametrize("event", [Event.SIGN, Event.LIST, Event.MISS, Event.OWE, Event.GIVE_UP])
def test_an_exchange_does_not_change_what_a_step_asks(event: Event) -> None:
    """A step runs in another thread."""
    for state, row in TRANSITIONS.items():
        assert event not in row or row[event].taken is state.taken


def test_the_docstring_has_the_table() -> None:
    lines = (module.__doc__ or "").splitlines()
    head = next(line for line in lines if line.startswith("state "))
    starts = [head.index(event.name) for event in Event]
    columns = list(zip(Event, starts, [*starts[1:], head.index("after")], strict=True))
    for state, row in TRANSITIONS.items():
        line = next(line for line in lines if line.startswith(f"{state.name} "))
        for event, start, end in columns:
            assert line[start:end].split() == ([row[event].name] if event in row else []), (state, event)
        crash = line[head.index("after") :].split(", ")
        assert {State[name] for name in crash} == AFTER_CRASH[state]


# Crashes, on disk

GENESIS, NEXT, LAYOUT = parts.state(), parts.state(seed=9, step=1), parts.LAYOUT
DILOCO, GRADIENT = parts.run_spec(parts.CODECS[0]), parts.run_spec(parts.CODECS[0], AdamW())


def started(folder: Path, spec: RunSpec) -> ContributionStore:
    """The store of a program that starts in `folder`."""
    charter = parts.charter(spec, GENESIS)
    saves, blobs = SavedState(folder / "work", charter.digest), BlobStore(folder / "blobs")
    store = ContributionStore(charter, parts.ADA, saves, blobs, ContributionLifecycle())
    saved = store.load()
    if isinstance(saved, SavedWork):
        store.resume(saved)
    else:
        store.save(genesis_tip(charter), GENESIS, {"steps": np.array([1], np.int64)})
    return store


def sign_in(store: ContributionStore) -> None:
    update = Update(parts.tensors(1, scale=0.01), tokens=64, samples=4, loss=2.5)
    store.keep(store.encode(genesis_tip(store.charter), LAYOUT, update, parts.admission(parts.ADA)))


def close_of(store: ContributionStore) -> Link:
    assert store.pending is not None
    return parts.link([store.pending], previous=parts.HASH_A)


def reach(store: ContributionStore, state: State) -> None:
    """Lead a fresh store to `state`, as the program does."""
    if state is State.TRAINING:
        return
    store.lifecycle.advance(Event.TAKE)
    if state is State.TAKEN:
        return
    sign_in(store)
    if state is State.LOST:
        assert store.pending is not None
        store.blobs.remove(blob_name(store.pending.value))
        store.check_pending()
    elif state is not State.PENDING:
        store.settle(LAYOUT, close_of(store) if state is State.LISTED else None)
    if state is State.CARRYING:
        store.hand_over()
        store.lifecycle.advance(Event.REBASE)
    assert store.lifecycle.state is state


@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize("state", State)
def test_a_program_starts_again_as_the_table_says(tmp_path: Path, state: State, saved: bool) -> None:
    """saved: the crash follows the save of the folded state."""
    spec = GRADIENT if state is State.OWED else DILOCO
    before = started(tmp_path, spec)
    reach(before, state)
    if saved and state in (State.LISTED, State.MISSED, State.OWED, State.CARRYING):
        before.save(Tip(Position(Round(1), BlobHash(parts.HASH_A)), NEXT.hash()), NEXT, Unchanged())
    after = started(tmp_path, spec).lifecycle.state
    assert after in AFTER_CRASH[state]
    if state is State.LISTED:
        assert after is (State.TRAINING if saved else State.PENDING)


@pytest.mark.parametrize("how", [b"", b"other bytes", None])
@pytest.mark.parametrize("when", ["at a restart", "while it waits", "when it missed its close"])
def test_a_contribution_whose_blob_is_damaged_is_given_up(
    tmp_path: Path, how: bytes | None, when: str
) -> None:
    store = started(tmp_path, DILOCO)
    reach(store, State.PENDING)
    assert store.pending is not None
    name = blob_name(store.pending.value)
    store.check_pending()
    assert store.lifecycle.state is State.PENDING
    store.blobs.remove(name)
    if how is not None:
        store.blobs.path(name).write_bytes(how)
    match when:
        case "at a restart":
            store = started(tmp_path, DILOCO)
        case "while it waits":
            store.check_pending()
        case _:
            store.settle(LAYOUT, None)
    assert store.lifecycle.state is (State.TRAINING if when == "at a restart" else State.LOST)
    assert store.pending is None
    assert [path.read_bytes() for path in tmp_path.glob("damaged/*")] == ([] if how is None else [how])
    if when != "at a restart":
        store.lifecycle.advance(Event.REBASE)
        assert started(tmp_path, DILOCO).lifecycle.state is State.TRAINING


def test_a_save_that_fails_leaves_nothing_to_publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = started(tmp_path, DILOCO)
    store.lifecycle.advance(Event.TAKE)

    def full(*_: object) -> None:
        raise DiskFull("no room", fix="Make room.")

    monkeypatch.setattr(store.saves, "save_contribution", full)
    with pytest.raises(DiskFull):
        sign_in(store)
    assert store.lifecycle.state is State.TAKEN
    assert store.pending is None
