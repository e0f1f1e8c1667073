"""What `peer verify` shows: a bar on a terminal, plain lines elsewhere, and the outcome."""

from __future__ import annotations

from typing import Protocol

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from typing_extensions import assert_never

from barnraise.core.ids import short
from barnraise.fold.replay import Difference
from peer.verify.evaluations import HeldOutOrigin, LossByCoordinator, LossByEvaluators, NoHeldOutLoss
from peer.verify.proof import FromBase, FromCheckpoint, Proved

LINES = 20
"""Lines about rounds that are printed at most where there is no terminal."""


class VerifyDisplay(Protocol):
    def __enter__(self) -> VerifyDisplay: ...

    def __exit__(self, *_: object) -> None: ...

    def say(self, text: str) -> None: ...

    def round(self, done: int, total: int, contributions: int, seconds: float) -> None:
        """`done` rounds of `total` are replayed, in so many seconds."""
        ...


class VerifyLines:
    def __enter__(self) -> VerifyLines:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def say(self, text: str) -> None:
        click.echo(text, err=True)

    def round(self, done: int, total: int, contributions: int, seconds: float) -> None:
        if done == total or done % -(-total // LINES) == 0:
            self.say(f"replayed {done} of {total} rounds: {_so_far(done, contributions, seconds)}")


class VerifyBar:
    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("replaying"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"),
            console=console,
        )  # fmt: skip
        self._task = self._progress.add_task("", total=None, visible=False)

    def __enter__(self) -> VerifyBar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        self._progress.console.print(text, highlight=False, markup=False)

    def round(self, done: int, total: int, contributions: int, seconds: float) -> None:
        told = _so_far(done, contributions, seconds)
        self._progress.update(self._task, completed=done, total=total, description=told, visible=True)


def verify_display(console: Console) -> VerifyDisplay:
    return VerifyBar(console) if console.is_terminal else VerifyLines()


def _so_far(rounds: int, contributions: int, seconds: float) -> str:
    return f"{contributions} contributions, {rounds / max(seconds, 1e-9):.1f} rounds/s"


def told_proof(proved: Proved) -> str:
    """What is proved, what had to be believed for it, and how long it took."""
    match proved.start:
        case FromBase(told):
            start, more = told, ""
        case FromCheckpoint(round):
            start = f"the checkpoint of round {round}"
            more = f", and its word for {start}: what came before is not proved"
        case _:
            assert_never(proved.start)
    first = proved.round - proved.rounds
    come_by = f"is {start}"
    if proved.rounds:
        folded, givers = _count(proved.contributions, "contribution"), _count(proved.volunteers, "volunteer")
        come_by = f"is what {folded} of {givers} in the rounds {first} to {proved.round - 1} make of {start}"
    pace = f"{_count(proved.rounds, 'round')} in {proved.seconds:.1f} s"
    if proved.training is not None:
        pace += f", {proved.training * proved.rounds / proved.seconds:.0f} × as fast as they were trained"
    return (
        f"proved: round {proved.round} of {proved.run}, state {proved.state}, {come_by}. The checkpoint's"
        f" {_count(proved.files, 'file')} hold exactly that state.\n"
        f"believed: the run's key {short(proved.key)}…{more}.\n"
        f"{_told_loss(proved.held_out)}"
        f"{pace}"
    )


def _told_loss(word: HeldOutOrigin) -> str:
    match word:
        case NoHeldOutLoss():
            return ""
        case LossByCoordinator(loss):
            return f"held-out loss {loss:.4f}: by the run's coordinator alone.\n"
        case LossByEvaluators(loss, by, of):
            return f"held-out loss {loss:.4f}: signed by {by} of {_count(of, 'vouched volunteer')}.\n"
        case _:
            assert_never(word)


def told_difference(differs: Difference) -> str:
    return (
        f"not proved: the {differs.what} differs: {differs.where}\n"
        f"  expected: {differs.expected}\n"
        f"  found:    {differs.found}\n"
        f"  → {differs.cause.value}"
    )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
