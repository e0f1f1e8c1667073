"""The rows of `scripts/bench learning`."""

from __future__ import annotations

from dataclasses import replace

from barnraise.contract.spec import Full, Lora
from scripts.benchmarks.arms.arms import MUON, Alone, Ddp, Diloco, Untrained, dense, outer
from scripts.benchmarks.arms.plan import Row
from scripts.benchmarks.arms.tuning import MOMENTA, RATES, Grid, rates

BASE, ALONE, DDP = "the base model", "one machine alone", "DDP"
MEAN, NESTEROV = "mean, 4 bit", "Nesterov, 4 bit"
ROUND = 8
"""Inner steps of a round."""
RATE = {"lora": 2e-3, "full": 1e-4}
"""The first rates that are tried."""
SPEEDS = (1.0, 0.75, 0.5, 0.25)
"""Of machines at home, as shares of the fastest one."""


def rows(target: Full | Lora) -> list[Row]:
    """The rows for one target, on one text, with any number of machines."""
    first = rates(RATE[target.kind])
    mean = Diloco(steps=ROUND, codec=dense(4), target=target)
    step = Grid(RATES, (0.5, 0.7, 1.0), MOMENTA, (RATE[target.kind], 0.7, 0.5))
    muon = replace(mean, inner=MUON)
    return [
        Row(BASE, Untrained(target), once=True),
        _row(ALONE, Alone(target, machines=2), first),
        _row(MEAN, mean, first),
        _row(DDP, Ddp(target), first),
        _row(NESTEROV, replace(mean, outer=outer(0.7, 0.5)), step, MEAN),
        _row("Nesterov, 2 bit", replace(mean, codec=dense(2)), NESTEROV, NESTEROV),
        _row("Nesterov, rounds half as long, 2 bit", replace(mean, steps=ROUND // 2, codec=dense(2)),
             NESTEROV, NESTEROV),
        _row("Nesterov, rounds twice as long, 4 bit", replace(mean, steps=2 * ROUND), NESTEROV, NESTEROV),
        _row("one machine alone (Muon)", Alone(target, MUON, machines=2), first, ALONE),
        _row("mean, 4 bit (Muon)", muon, first, MEAN),
    ]  # fmt: skip


def value_rows(target: Full | Lora, peers: int) -> list[Row]:
    """The rows whose losses over time show what each of `peers` volunteers is worth."""
    arm = Diloco(steps=ROUND, codec=dense(4), target=target)
    if peers == 1:
        return [Row(ALONE, Alone(target, machines=1))]
    speeds = tuple((SPEEDS * peers)[:peers])
    return [
        Row("equal speeds", arm),
        Row("speeds of home machines", replace(arm, speeds=speeds)),
    ]


def _row(name: str, arm: Alone | Ddp | Diloco, tune: Grid | str, against: str = "") -> Row:
    return Row(name, arm, tune, ALONE, DDP, against)
