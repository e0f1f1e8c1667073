"""To which states a run can be rolled back, and the entry that does it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from barnraise.contract.field_types import MAX_VOID
from barnraise.contract.log_entries import Change, Close, Rollback, parse_entry
from barnraise.contract.schedule import Progress
from barnraise.core.errors import UserError
from barnraise.core.ids import BlobHash, Millis, StateHash
from coordinator.store.next_entry import rollback_of
from coordinator.store.run_state import RunState

Read = Callable[[BlobHash], bytes]
"""The payload of an entry of the log, by its name."""


def rollback_to(
    to: int, changes: Sequence[Change], note: str, run: RunState, read: Read, now: Millis
) -> Rollback:
    """The entry, without the order. Raises UserError where the run cannot go back to that state."""
    check_target(to, run)
    state, tokens = state_named(to, run, read), tokens_at(to, run, read)
    return rollback_of(run, to, state, changes, note, now, tokens=tokens)


def check_target(to: int, run: RunState) -> None:
    """Raises UserError where the run cannot go back to the state of a round."""
    position = run.position
    if to > run.round:
        raise UserError(
            f"round {to} is not open yet: the open one is {run.round}", fix="Give an earlier round."
        )
    for first, last in position.void:
        if first <= to <= last:
            same = f"its state is that of round {last + 1}" if to == first else "its state is void"
            raise UserError(
                f"round {to} was rolled back: {same}", fix=f"Give a round up to {first - 1}, or after {last}."
            )
    if len(position.void_after(to)) > MAX_VOID:
        raise UserError(
            f"the run was rolled back {MAX_VOID} times, and its log cannot name more void rounds",
            fix=f"Give a round before {position.void[-1][0]}, or start a new run from the newest checkpoint.",
        )
    if to < run.replay_from:
        raise UserError(
            f"the contributions of round {to} are not kept any more",
            fix=f"Give round {run.replay_from} or a later one: `checkpoint.rollback_rounds` says how many are"
            " kept at least.",
        )


def state_named(to: int, run: RunState, read: Read) -> StateHash:
    """The hash of state[to], as the log names it. to: as of `check_target`."""
    if to == run.round:
        return run.tip.state
    for logged in reversed(run.log):
        match parse_entry(read(logged.name)):
            case Close(round=round, base_state=state) | Rollback(round=round, state=state) if round == to:
                return StateHash(state)
    raise AssertionError("the log has the end of each round")


def tokens_at(to: int, run: RunState, read: Read) -> int | None:
    """`Rollback.tokens` of state[to], as the log says them: None in a run that is not planned by tokens."""
    if to == run.round or run.position.progress.tokens is None:
        return run.position.progress.tokens
    if to == 0:
        return 0
    for logged in reversed(run.log):
        match parse_entry(read(logged.name)):
            case Close(round=round, progress=Progress(tokens=tokens)) if round == to - 1:
                return tokens
            case Rollback(round=round, tokens=tokens) if round == to - 1:
                return tokens
    raise AssertionError("the log has the end of each round")
