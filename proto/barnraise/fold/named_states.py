"""The states that a log names: each close names the one that its round began with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from barnraise.contract.charter import Charter
from barnraise.contract.close_rules import tokens_after
from barnraise.contract.state_index import WantedState
from barnraise.contract.tip import Position, Tip
from barnraise.core.ids import StateHash
from barnraise.fold.log import Link, Step
from barnraise.fold.outer import outer_for


@dataclass(frozen=True)
class NamedState:
    """A state, and its place in the log."""

    tip: Tip
    tokens: int
    """Tokens folded up to there."""


def named_states(start: Position, tokens: int, steps: Iterable[Step]) -> list[NamedState]:
    """The state before each close among `steps`, newest first.

    start, tokens: the place before the steps, which are checked, and the tokens folded up to there.
    """
    found: list[NamedState] = []
    position = start
    for step in steps:
        if isinstance(step, Link):
            found.append(NamedState(Tip(position, StateHash(step.close.base_state)), tokens))
            tokens = tokens_after(tokens, step.commits)
        position = position.after(step.entry)
    return found[::-1]


def wanted_state(tip: Tip, charter: Charter) -> WantedState:
    """What is known of a state before it is fetched."""
    buffers = outer_for(charter.spec.outer, tip.round).buffer_names if tip.round else ()
    return WantedState(tip.state, tip.round, charter.layout, buffers)
