"""The states that a log names: each close names the one that its round began with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from barnraise.contract.charter import Charter
from barnraise.contract.close_rules import tokens_after
from barnraise.contract.state_index import WantedState
from barnraise.contract.tip import Position, Tip
from barnraise.core.ids import StateHash
from barnraise.fold.log import Link, Step, place_after
from barnraise.fold.outer import outer_for


@dataclass(frozen=True)
class NamedState:
    """A state, and its place in the log."""

    tip: Tip
    tokens: int
    """Tokens folded up to there."""


def named_states(start: Position, tokens: int, steps: Sequence[Step]) -> list[NamedState]:
    """The state before each close among `steps` whose contributions are not void, newest first.

    start, tokens: the place before the steps, which are checked, and the tokens folded up to there.
    """
    found: list[NamedState] = []
    position, end = start, place_after(start, steps)
    for step in steps:
        if isinstance(step, Link) and end.folds(step.close.round):
            found.append(NamedState(Tip(position, StateHash(step.close.base_state)), tokens))
            tokens = tokens_after(tokens, step.commits)
        position = position.after(step.entry)
    return found[::-1]


def wanted_state(tip: Tip, charter: Charter) -> WantedState:
    """What is known of a state before it is fetched."""
    step = tip.position.step
    buffers = outer_for(charter.spec.outer, step).buffer_names if step else ()
    return WantedState(tip.state, step, charter.layout, buffers)
