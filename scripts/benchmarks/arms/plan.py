"""Which cells a comparison still needs: settings are chosen on one seed, and run with others. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from scripts.benchmarks.arms.arms import Alone, Arm, Diloco, key, with_outer, with_rate
from scripts.benchmarks.arms.training import Outcome
from scripts.benchmarks.arms.tuning import Best, Grid, Point, Try, climb

TUNING_SEED = 0
"""The seed on which settings are chosen; no loss of a table is of it."""


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    name: str
    arm: Arm
    """Its settings that are chosen, rates and outer steps, are replaced."""
    tune: Grid | str | None = None
    """The grid of settings, or the name of a row whose best ones are taken; None keeps the arm's own."""
    alone: str = ""
    ddp: str = ""
    """Names of the rows between whose losses this one's gain is a share."""
    against: str = ""
    """Name of the row that this one is compared with, seed by seed."""
    once: bool = False
    """Run with the first seed alone: only its bytes matter."""


@dataclass(frozen=True)
class Cell:
    """One arm to train with one seed."""

    row: str
    arm: Arm
    seed: int

    @property
    def name(self) -> str:
        return f"seed {self.seed}: {key(self.arm)}"


Done = Mapping[str, Outcome]
"""Outcomes by the names of cells."""


@dataclass(frozen=True)
class Chosen:
    """A row with its settings."""

    row: Row
    arm: Arm
    best: Best | None
    """Of the search, where the row has one of its own."""


@dataclass(frozen=True)
class Plan:
    """The rows of one table and the seeds of its losses."""

    rows: Sequence[Row]
    seeds: Sequence[int]

    def missing(self, done: Done) -> list[Cell]:
        """Cells that can run now, in the order of the rows; empty once all is done."""
        cells: dict[str, Cell] = {}
        for row in self.rows:
            for cell in self._wanted(row, done):
                if cell.name not in done:
                    cells.setdefault(cell.name, cell)
        return list(cells.values())

    def chosen(self, row: Row, done: Done) -> Chosen | Try | None:
        """A row with its settings, the tries that choose them, or None while another row's are not known."""
        match row.tune:
            case None:
                return Chosen(row, row.arm, None)
            case str(name):
                return self._like(row, name, done)
            case Grid() as grid:
                step = climb(grid, dict(_losses(row, grid, done)))
                return step if isinstance(step, Try) else Chosen(row, grid.arm(row.arm, step.point), step)

    def outcomes(self, row: Row, done: Done) -> list[Outcome]:
        """Of all seeds; empty where one is missing."""
        found = self.chosen(row, done)
        if not isinstance(found, Chosen):
            return []
        names = [Cell(row.name, found.arm, seed).name for seed in self.seeds_of(row)]
        return [done[name] for name in names] if all(name in done for name in names) else []

    def seeds_of(self, row: Row) -> Sequence[int]:
        return self.seeds[:1] if row.once else self.seeds

    def row(self, name: str) -> Row:
        return next(row for row in self.rows if row.name == name)

    def only(self, parts: Sequence[str]) -> Plan:
        """The rows that `parts` name, and those that give them settings or references.

        A part is the name of a row, or else in the names of several.
        """
        names: set[str] = set()
        waiting = [row for part in parts for row in self._named(part)]
        while waiting:
            row = waiting.pop()
            if row.name not in names:
                names.add(row.name)
                others = {row.alone, row.ddp, row.against, row.tune if isinstance(row.tune, str) else ""}
                waiting += [other for other in self.rows if other.name in others]
        return Plan([row for row in self.rows if row.name in names], self.seeds)

    def with_settings_of(self, done: Done) -> Plan:
        """The rows whose settings are known from `done`, of another workload, with these."""
        found = [self.chosen(row, done) for row in self.rows]
        rows = [replace(one.row, arm=one.arm, tune=None) for one in found if isinstance(one, Chosen)]
        return Plan(rows, self.seeds)

    def _named(self, part: str) -> list[Row]:
        return [row for row in self.rows if row.name == part] or [
            row for row in self.rows if part in row.name
        ]

    def _wanted(self, row: Row, done: Done) -> Iterator[Cell]:
        match self.chosen(row, done):
            case Chosen(arm=arm):
                yield from (Cell(row.name, arm, seed) for seed in self.seeds_of(row))
            case Try(points=points) if isinstance(row.tune, Grid):
                for point in points:
                    yield _tuning_cell(row, row.tune.arm(row.arm, point))
            case _:
                return

    def _like(self, row: Row, name: str, done: Done) -> Chosen | None:
        other = self.chosen(self.row(name), done)
        if not isinstance(other, Chosen):
            return None
        arm = with_rate(row.arm, other.arm.inner.lr)
        return Chosen(row, with_outer(arm, other.arm.outer) if isinstance(other.arm, Diloco) else arm, None)


def _tuning_cell(row: Row, arm: Arm) -> Cell:
    # One machine is enough to choose the rate of machines that train alone.
    tried = replace(arm, machines=1) if isinstance(arm, Alone) else arm
    return Cell(row.name, tried, TUNING_SEED)


def _losses(row: Row, grid: Grid, done: Done) -> Iterator[tuple[Point, float]]:
    for point in product(*(range(len(axis)) for axis in grid.axes)):
        cell = _tuning_cell(row, grid.arm(row.arm, point))
        if cell.name in done:
            yield point, done[cell.name].loss


def grid_lines(plan: Plan, done: Done) -> Iterator[str]:
    """For each row whose search has begun: the tries with their losses, and whether the best is interior."""
    for row in plan.rows:
        if not isinstance(row.tune, Grid):
            continue
        if not (losses := dict(_losses(row, row.tune, done))):
            continue
        tries = ", ".join(
            f"{settings(row.tune.arm(row.arm, point))}: {loss:.4f}" for point, loss in sorted(losses.items())
        )
        match plan.chosen(row, done):
            case Chosen(arm=arm, best=Best(at_edge=())):
                verdict = f"best {settings(arm)}, interior"
            case Chosen(arm=arm):
                verdict = f"best {settings(arm)}, **at the edge of the grid**"
            case _:
                verdict = "not finished"
        yield f"- {row.name}: {verdict} ({tries})"


def settings(arm: Arm) -> str:
    """The chosen settings of an arm."""
    rate = f"{arm.inner.lr:g}"
    return f"{rate}, {arm.outer.lr:g} / {arm.outer.momentum:g}" if isinstance(arm, Diloco) else rate
