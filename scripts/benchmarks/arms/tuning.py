"""Finds the best settings of an arm on a grid, one try after the other. Pure.

A try is a point of the grid: an index on each axis. The search descends: it moves to the best neighbour until
no neighbour of the best point is better. Losses of fine-tuning have one valley in the rate and in the
outer step, so a neighbourhood suffices, and the optimum is known to be interior, or said to be at an edge.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from scripts.benchmarks.arms.arms import Arm, outer, with_outer, with_rate

RATES = (5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 3e-3, 5e-3, 1e-2, 2e-2)
OUTER_RATES = (0.5, 0.7, 1.0, 1.4)
MOMENTA = (0.0, 0.5, 0.7, 0.9)
"""The grid of all arms: inner learning rates, and outer rates and momenta (Nesterov)."""

Point = tuple[int, ...]


@dataclass(frozen=True)
class Grid:
    """The settings that are tried for one arm."""

    rates: tuple[float, ...] = RATES
    outer_rates: tuple[float, ...] = ()
    momenta: tuple[float, ...] = ()
    """Both empty: the arm's own outer step is kept."""
    start: tuple[float, float, float] = (1e-3, 1.0, 0.0)
    """The first try: inner rate, outer rate, momentum."""

    @property
    def axes(self) -> tuple[tuple[float, ...], ...]:
        return tuple(axis for axis in (self.rates, self.outer_rates, self.momenta) if axis)

    @property
    def first(self) -> Point:
        return tuple(axis.index(value) for axis, value in zip(self.axes, self.start, strict=False))

    def arm(self, template: Arm, point: Point) -> Arm:
        """`template` with the settings of `point`."""
        values = [axis[index] for axis, index in zip(self.axes, point, strict=True)]
        arm = with_rate(template, values[0])
        return with_outer(arm, outer(values[1], values[2])) if len(values) > 1 else arm


def free(rate: float, outer_rate: float = 0.7, momentum: float = 0.5) -> Grid:
    """A grid of inner rates and outer steps, from a first guess."""
    return Grid(RATES, OUTER_RATES, MOMENTA, (rate, outer_rate, momentum))


def rates(first: float) -> Grid:
    """A grid of inner rates alone, from a first guess."""
    return Grid(start=(first, 1.0, 0.0))


@dataclass(frozen=True)
class Try:
    """These points have to be tried before the search can go on."""

    points: tuple[Point, ...]


@dataclass(frozen=True)
class Best:
    """The best point."""

    point: Point
    loss: float
    at_edge: tuple[int, ...]
    """Axes on which the best value is the least or largest one that was offered (a momentum of 0 is none)."""
    tried: int


def climb(grid: Grid, losses: Mapping[Point, float]) -> Try | Best:
    """What to try next, or the best point. losses: of what was tried so far; may have other points, too."""
    here = grid.first
    while here in losses:
        around = list(_neighbours(grid.axes, here))
        missing = tuple(point for point in around if point not in losses)
        if missing:
            return Try(missing)
        best = min(around, key=lambda point: losses[point], default=here)
        if losses[best] >= losses[here]:
            return Best(here, losses[here], tuple(_edges(grid, here)), len(losses))
        here = best
    return Try((here,))


def _neighbours(axes: Sequence[Sequence[float]], here: Point) -> Iterator[Point]:
    for place, axis in enumerate(axes):
        for index in (here[place] - 1, here[place] + 1):
            if 0 <= index < len(axis):
                yield (*here[:place], index, *here[place + 1 :])


def _edges(grid: Grid, point: Point) -> Iterator[int]:
    for place, (axis, index) in enumerate(zip(grid.axes, point, strict=True)):
        natural = place == 2 and axis[index] == 0
        if len(axis) > 1 and index in (0, len(axis) - 1) and not natural:
            yield place
