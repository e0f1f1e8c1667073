"""The learning rate's factor in each round, and where a run ends: pure functions of the log.

A warm-up, a stable rate and a decay (Hu et al. 2024, "MiniCPM", section 4; Hägele et al. 2024, "Scaling Laws
and Compute-Optimal Training Beyond Fixed Training Durations"):

    factor(round) = min(1, (step + 1) / (warm-up rounds + 1)) · min(1, left / span)

step: rounds that are folded before (`Position.step`), so that a rollback takes the rate back as well.

| the run ends                      | left                   | span                 |
|-----------------------------------|------------------------|----------------------|
| after `schedule.rounds`           | rounds, this one too   | its decay rounds + 1 |
| with `schedule.tokens`            | tokens                 | its share of them    |
| by the maintainer's order         | rounds, this one too   | the order's + 1      |
| never                             | as much as `span`      |                      |

Planned by both, the lower of the two factors counts, and the run ends with the first. The first round of a
warm-up and the last one of a run have a rate above 0. Quotients and products of integers and doubles, each
rounded once: equal on every machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from barnraise.contract.field_types import Count, total
from barnraise.contract.schedule_spec import Rounds, Schedule
from barnraise.core.strict import Strict


class OrderedDecay(Strict):
    """A decay that the maintainer ordered, instead of the planned one (`barnraise.contract.log_entries`)."""

    start: Count
    """Rounds that were folded before its first one."""
    rounds: Rounds
    """It ends the run after them."""

    @property
    def end(self) -> int:
        """Rounds that are folded when it ends."""
        return self.start + self.rounds


class Progress(Strict):
    """What the schedule depends on next to the round, at a place of the log."""

    tokens: Count | None = Field(default=None, exclude_if=lambda tokens: tokens is None)
    """Tokens folded into the state of that place, as far as they count
    (`barnraise.contract.weights.planned_tokens`), in a run that is planned by them; else None."""
    decay: OrderedDecay | None = Field(default=None, exclude_if=lambda decay: decay is None)
    """The one that is ordered."""

    def after(self, tokens: Iterable[int]) -> Progress:
        """After a close. tokens: those that count of each contribution."""
        if self.tokens is None:
            return self
        return self.model_copy(update={"tokens": total((self.tokens, *tokens))})

    def ordered(self, step: int, rounds: int) -> Progress:
        """After the order to decay over `rounds` behind the open one, in which volunteers train already.

        step: rounds that are folded before the open one.
        """
        return self.model_copy(update={"decay": OrderedDecay(start=step + 1, rounds=rounds)})

    def back_at(self, step: int, tokens: int | None) -> Progress:
        """After a rollback to the state of `step` rounds and `tokens`.

        Back at the state that an ordered decay began with, or at an earlier one, the order is void too.
        """
        keeps = self.decay is not None and self.decay.start < step
        return Progress(tokens=tokens, decay=self.decay if keeps else None)


NO_PROGRESS = Progress()
"""Of a run that is not planned by tokens, and whose end is not ordered."""
Stated = Annotated[Progress, Field(exclude_if=lambda progress: progress == NO_PROGRESS)]
"""A field with it: absent where there is nothing to say."""


def first_progress(schedule: Schedule) -> Progress:
    """Where the log begins."""
    return NO_PROGRESS if schedule.tokens is None else Progress(tokens=0)


@dataclass(frozen=True)
class Left:
    """Until the run's end, in rounds or in tokens."""

    left: int
    """0: the run is over."""
    span: float
    """Of the decay before it."""

    @property
    def factor(self) -> float:
        """Of the learning rate: 1 before the decay."""
        return min(1.0, self.left / self.span)


def ends(schedule: Schedule, step: int, progress: Progress) -> Iterator[Left]:
    """What is left of the run after `step` rounds, until each of its ends; nothing where it has none."""
    if (ordered := progress.decay) is not None:
        yield Left(max(0, ordered.end - step), ordered.rounds + 1)
        return
    if schedule.rounds is not None:
        yield Left(max(0, schedule.rounds - step), schedule.decay_rounds + 1)
    if schedule.tokens is not None:
        span = max(1.0, schedule.decay * schedule.tokens)
        yield Left(max(0, schedule.tokens - (progress.tokens or 0)), span)


def rate_factor(schedule: Schedule, step: int, progress: Progress) -> float:
    """The learning rate's factor in the round after `step` others, from 0 to 1: 0 only after the end."""
    warm = min(1.0, (step + 1) / (schedule.warmup_rounds + 1))
    return warm * min((end.factor for end in ends(schedule, step, progress)), default=1.0)


def is_over(schedule: Schedule, step: int, progress: Progress) -> bool:
    """Whether the run has ended after `step` rounds: none is closed any more."""
    return any(end.left == 0 for end in ends(schedule, step, progress))


def decays(schedule: Schedule, step: int, progress: Progress) -> bool:
    """Whether the rate falls already, or the run is over."""
    return any(end.left < end.span for end in ends(schedule, step, progress))
