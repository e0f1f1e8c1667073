"""Whether the run goes back to an earlier state by itself: pure.

| what audits found                                              | what follows                             |
|----------------------------------------------------------------|------------------------------------------|
| no key is banned                                               | nothing                                  |
| a key is banned, and the run's losses are as before            | the ban alone: its weight was bounded    |
| a key is banned, and the losses rose                           | a rollback to before its first harm      |
| the same, within `checkpoint.rollback_rounds` of the last one  | the ban, and the run halts               |

A run that went back twice would do so for ever: a person has to look.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from barnraise.contract.log_entries import Change
from barnraise.contract.tip import Position
from barnraise.contract.verdict import Verdict
from barnraise.core.errors import StateError
from barnraise.core.ids import PublicKey
from barnraise.core.signed import open_text
from coordinator.messages.rounds import no_rollback_message
from coordinator.reasons.rounds import (
    HarmAfterRollback,
    LossesUnharmed,
    NoRollback,
    NothingFolded,
    NothingIsBanned,
)
from coordinator.store.run_state import RunState

HARM = 0.05
"""Share by which the newest held-out loss is above the lowest one where the losses rose."""


class RunHalted(StateError):
    """The run may not go back once more by itself."""

    def __init__(self, reason: HarmAfterRollback) -> None:
        super().__init__(
            no_rollback_message(reason),
            fix="Look at `coordinator peers`, ban who does harm, and go back by `coordinator rollback --to`."
            " Then start the coordinator again.",
        )
        self.reason = reason


@dataclass(frozen=True)
class Stay:
    """No rollback."""

    reason: NoRollback


@dataclass(frozen=True)
class GoBack:
    """A rollback to the state of a round, with the bans."""

    to: int


@dataclass(frozen=True)
class Halt:
    """The run halts once the bans are in the log."""

    reason: HarmAfterRollback


def after_verdicts(first_harm: dict[PublicKey, int], harmed: bool, run: RunState) -> Stay | GoBack | Halt:
    """first_harm: of each key that is banned, the first round to which it is known to have done harm.

    harmed: whether the losses rose.
    """
    if not first_harm:
        return Stay(NothingIsBanned())
    position = run.position
    folded = [round for round in first_harm.values() if round < run.round and position.folds(round)]
    if not folded:
        return Stay(NothingFolded())
    if not harmed:
        return Stay(LossesUnharmed())
    since = [run.round - last for _, last in position.void]
    if since and min(since) <= run.spec.checkpoint.rollback_rounds:
        return Halt(HarmAfterRollback(tuple(sorted(first_harm)), min(since)))
    return GoBack(_in_force(max(run.replay_from, min(folded)), position))


def _in_force(to: int, position: Position) -> int:
    """The round with the state of round `to` that a rollback may name: one was rolled back to it already."""
    for first, last in position.void:
        if first == to:
            to = last + 1
    return to


def banned_by_audits(changes: Iterable[Change]) -> dict[PublicKey, int]:
    """As `first_harm` of `after_verdicts`: the verdicts were checked when they were made."""
    found: dict[PublicKey, int] = {}
    for change in changes:
        if change.level == "banned" and change.cause == "audit" and change.verdict is not None:
            figures = open_text(Verdict, change.verdict, signer=None).value.figures
            found[PublicKey(change.key)] = min(
                (each.round for each in figures if each.score > 0), default=figures[-1].round
            )
    return found


def losses_rose(run: RunState, chance: float | None) -> bool:
    """Whether training diverges, or the newest held-out loss is far above the lowest one."""
    if run.trend.divergence(chance) is not None:
        return True
    losses = [score.held_out.loss for _, score in sorted(run.scores.items())]
    return bool(losses) and losses[-1] > (1 + HARM) * min(losses)
