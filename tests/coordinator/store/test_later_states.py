"""Which of the states that the log names can take the place of lost contributions."""

from __future__ import annotations

from barnraise.contract.tip import Position, Tip
from barnraise.core.ids import BlobHash, Round, StateHash
from barnraise.fold.named_states import NamedState
from coordinator.store.later_states import usable_states
from tests.support.parts import ADA, HASH_A, HASH_B


def named(round: int, *, delegated: bool = False) -> NamedState:
    closers = (ADA.public,) if delegated else None
    position = Position(Round(round), BlobHash(HASH_B), height=round, next_closers=closers)
    return NamedState(Tip(position, StateHash(HASH_A)), 0)


def test_only_states_after_the_gap_help() -> None:
    states = [named(round) for round in (5, 4, 3, 2)]
    assert usable_states(states, 3) == (named(5), named(4))
    assert usable_states(states, -1) == tuple(states)
    assert usable_states(states, 5) == ()


def test_a_state_of_which_no_manifest_can_be_written_is_left_out() -> None:
    assert usable_states([named(5, delegated=True), named(4)], 3) == (named(4),)
