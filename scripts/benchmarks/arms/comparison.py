"""The outcomes of a plan's rows, and how they compare. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scripts.benchmarks.arms.plan import Chosen, Done, Plan, Row
from scripts.benchmarks.arms.statistics import Interval, paired, share_of_gain
from scripts.benchmarks.arms.training import Outcome


@dataclass(frozen=True)
class Found:
    """A row that was run with all seeds."""

    row: Row
    chosen: Chosen
    outcomes: Sequence[Outcome]

    @property
    def losses(self) -> list[float]:
        return [outcome.loss for outcome in self.outcomes]

    @property
    def once(self) -> float:
        """Bytes that a machine sends when each contribution leaves its owner once, mean of the seeds."""
        return statistics.fmean(outcome.once for outcome in self.outcomes)

    @property
    def sent(self) -> float:
        """Bytes that a machine sends when all receive everything, mean of the seeds."""
        return statistics.fmean(outcome.sent for outcome in self.outcomes)


Results = Mapping[str, Found]
"""By the names of rows."""


def found_of(plan: Plan, done: Done) -> Results:
    """The rows whose cells are all done."""
    found = {}
    for row in plan.rows:
        chosen, outcomes = plan.chosen(row, done), plan.outcomes(row, done)
        if isinstance(chosen, Chosen) and outcomes:
            found[row.name] = Found(row, chosen, outcomes)
    return found


def difference(found: Results, name: str, reference: str) -> Interval | None:
    """How much higher the loss of `name` is, in per cent; None where the seeds are not the same."""
    if name not in found or reference not in found or name == reference:
        return None
    one, other = found[name].losses, found[reference].losses
    return paired(one, other) if len(one) == len(other) else None


def gain(found: Results, name: str) -> Interval | None:
    """The share of DDP's gain that a row keeps, in per cent; None where there is nothing to compare."""
    row = found[name].row
    if not {row.alone, row.ddp} <= found.keys() or name in (row.alone, row.ddp):
        return None
    losses, alone, ddp = (found[one].losses for one in (name, row.alone, row.ddp))
    return share_of_gain(losses, alone, ddp) if len(losses) == len(alone) == len(ddp) else None
