"""The settings with which runs learned best: rates by target and width, outer steps by volunteers.

docs/PERFORMANCE.md, *Convergence* and *Learning*, has the tables. Pure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from barnraise.contract.spec import Full, Lora, RoundSpec, Sgd

_FULL_RATE, _ADAPTER_FACTOR, _RATE_WIDTH, _RATE_EXPONENT = 5e-5, 10, 2000, 0.781
"""Schulman et al. 2025, "LoRA Without Regret", with the exponent of LLaMA: the best rate of AdamW is 5e-5
at width 2,000, ten times that for an adapter, and falls with the width. At width 4,096 (8B
parameters) 2.9e-5 and 2.9e-4, within the ranges that are usual there: 1e-5 to 5e-5 and 1e-4 to 5e-4."""
_ADAPTER_RANK = 16
"""Of the adapter that these ten times are for. Where alpha / rank is constant, the best rate falls with the
root of the rank (Kalajdzievski 2023, "A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA"; ranks
2, 8 and 32 in docs/PERFORMANCE.md)."""
_ROUNDS_FACTOR = 1.5
"""The rate of a run for which an outer step was measured, as a multiple of the usual one. The best rate was
1 to 1.7 times that of one machine, for 4 and 8 volunteers."""
HIGH, LOW = 5, 1 / 30
"""Multiples of the usual rate outside of which a run is likely to learn nothing."""


@dataclass(frozen=True)
class Measured:
    """What rounds of a number of volunteers keep of what data parallel training gains over one machine."""

    volunteers: int
    mean: int
    """Per cent, with the mean of their results."""
    step: Sgd
    """The outer step that was best."""
    best: int
    """Per cent, with that step."""


MEAN = Sgd()
PLACES = RoundSpec().max_contributions
"""Contributions of a round, unless its spec has another number."""
ADAPTER = (
    Measured(4, 85, Sgd(lr=0.7, momentum=0.5, nesterov=True), 93),
    Measured(8, 66, Sgd(lr=0.7, momentum=0.7, nesterov=True), 79),
)
"""Of LoRA, in rounds of 20 steps, each arm at its best inner rate."""
FULL = (
    Measured(4, 76, Sgd(lr=0.7, momentum=0.5, nesterov=True), 86),
    Measured(8, 69, Sgd(lr=0.7, momentum=0.7, nesterov=True), 78),
)
"""Of all parameters, in rounds of 20 steps: with 4 at 1e-3, with 8 at the best inner rate of each arm."""


def usual_rate(target: Full | Lora, width: int) -> float:
    """The learning rate that is usual for AdamW in fine-tuning a model of this width."""
    factor = 1.0
    if isinstance(target, Lora):
        factor = _ADAPTER_FACTOR * math.sqrt(_ADAPTER_RANK / target.rank)
    return _FULL_RATE * factor * (_RATE_WIDTH / width) ** _RATE_EXPONENT


def starting_rate(target: Full | Lora, width: int, volunteers: int) -> float:
    """The learning rate for a new run of this number of volunteers, to one digit."""
    factor = 1.0 if measured(target, volunteers) is None else _ROUNDS_FACTOR
    return float(f"{factor * usual_rate(target, width):.0e}")


def strays_far(multiple: float) -> bool:
    """Whether this multiple of the usual rate is objected to."""
    return not LOW <= multiple <= HIGH


def measured(target: Full | Lora, volunteers: int, places: int = PLACES) -> Measured | None:
    """The row of the most volunteers that are no more than these; None for fewer than all rows, and for more
    than have places in a round.

    These take turns, so a contribution has the work of several rounds. A momentum on top of it loses more
    than it gains.
    """
    rows = ADAPTER if isinstance(target, Lora) else FULL
    fitting = (row for row in rows if row.volunteers <= volunteers <= places)
    return max(fitting, key=lambda row: row.volunteers, default=None)


def outer_step(target: Full | Lora, volunteers: int, places: int = PLACES) -> Sgd:
    """The outer step of a run of this number of volunteers. places: contributions of a round."""
    row = measured(target, volunteers, places)
    return MEAN if row is None else row.step
