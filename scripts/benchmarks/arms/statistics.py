"""Intervals over seeds. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

_T95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
"""Two-sided 95 % quantiles of Student's t distribution by degrees of freedom."""


@dataclass(frozen=True)
class Interval:
    """A mean over seeds and half the width of its 95 % interval; infinite for one seed."""

    mean: float
    half: float

    @property
    def low(self) -> float:
        return self.mean - self.half

    @property
    def high(self) -> float:
        return self.mean + self.half

    def __format__(self, form: str) -> str:
        """Both numbers by `form`; a sign is the mean's alone."""
        spread = "" if math.isinf(self.half) else f" ± {format(self.half, form.lstrip('+'))}"
        return f"{format(self.mean, form)}{spread}"


def interval(values: Sequence[float]) -> Interval:
    """Of Student's t distribution, for 1 to 10 values."""
    if len(values) == 1:
        return Interval(values[0], math.inf)
    half = _T95[len(values) - 1] * statistics.stdev(values) / math.sqrt(len(values))
    return Interval(statistics.fmean(values), half)


def paired(losses: Sequence[float], reference: Sequence[float]) -> Interval:
    """How much higher `losses` are than those of the same seeds in `reference`, in per cent."""
    return interval([100 * (one / other - 1) for one, other in zip(losses, reference, strict=True)])


def share_of_gain(losses: Sequence[float], alone: Sequence[float], ddp: Sequence[float]) -> Interval:
    """The share, in per cent, of what data parallel training gains over one machine, seed by seed."""
    each = zip(losses, alone, ddp, strict=True)
    return interval([100 * (without - loss) / (without - bound) for loss, without, bound in each])
