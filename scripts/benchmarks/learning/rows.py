"""The rows of `scripts/bench learning`."""

from __future__ import annotations

from dataclasses import replace

from barnraise.contract.spec import Full, InnerSpec, Lora
from coordinator.setup.practice import outer_step, starting_rate
from coordinator.setup.template import DEFAULT_WIDTH
from scripts.benchmarks.arms.arms import Alone, Ddp, Diloco, Untrained, dense, outer
from scripts.benchmarks.arms.plan import Row
from scripts.benchmarks.arms.tuning import MOMENTA, RATES, Grid, rates

BASE, ALONE, DDP = "the base model", "one machine alone", "DDP"
MEAN, NESTEROV = "mean, 4 bit", "Nesterov, 4 bit"
DEFAULTS = "the defaults of `coordinator new`"
INNER, MUON = InnerSpec(), InnerSpec(optimizer="muon")
"""AdamW and Muon as a run has them by default: gradients are clipped."""
ROUND = 8
"""Inner steps of a round."""
RATE = {"lora": 1e-3, "full": 1e-4}
"""The first rates that are tried."""
DECAY = 0.5
"""The last share of the rounds, in which the rate decays."""


def defaults(target: Full | Lora, volunteers: int) -> Diloco:
    """The arm that a run has which `coordinator new` writes for this number of volunteers."""
    inner = INNER.model_copy(update={"lr": starting_rate(target, DEFAULT_WIDTH, volunteers)})
    return Diloco(ROUND, dense(4), outer_step(target, volunteers), target, inner)


def one_machine(target: Full | Lora) -> Alone:
    """The arm of one machine alone: the mean of two that each train alone."""
    return Alone(target, INNER, machines=2)


def rows(target: Full | Lora, machines: int) -> list[Row]:
    """The rows for one target, on one text."""
    rate, default, alone = RATE[target.kind], defaults(target, machines), one_machine(target)
    mean = Diloco(steps=ROUND, codec=dense(4), target=target, inner=INNER)
    nesterov = replace(mean, outer=outer(0.7, 0.5))
    step = Grid(RATES, (0.7,), MOMENTA, (rate, 0.7, 0.5))
    return [
        Row(BASE, Untrained(target), once=True),
        _row(ALONE, alone, rates(rate)),
        _row(NESTEROV, nesterov, rates(rate)),
        _row(DDP, Ddp(target, INNER), rates(rate)),
        _row(DEFAULTS, default, None),
        _row(f"{DEFAULTS}, mean of 3", replace(default, average=3), None, DEFAULTS),
        _row(MEAN, mean, rates(rate)),
        _row("the best outer step, 4 bit", nesterov, step, NESTEROV),
        _row(f"{ALONE}, decay", replace(alone, decay=DECAY), rates(rate), ALONE),
        _row(f"{ALONE}, decay over all steps", replace(alone, decay=1.0), rates(2 * rate), ALONE),
        _row(f"{NESTEROV}, decay", replace(nesterov, decay=DECAY), NESTEROV, NESTEROV),
        _row("Nesterov, 2 bit", replace(nesterov, codec=dense(2)), NESTEROV, NESTEROV),
        _row(f"{DEFAULTS}, rounds half as long, 2 bit",
             replace(default, steps=ROUND // 2, codec=dense(2)), None, DEFAULTS),
        _row(f"{DEFAULTS}, rounds twice as long", replace(default, steps=2 * ROUND), None, DEFAULTS),
        _row(f"{ALONE} (Muon)", replace(alone, inner=MUON), rates(rate), ALONE),
        _row(f"{MEAN} (Muon)", replace(mean, inner=MUON), rates(rate), MEAN),
    ]  # fmt: skip


def _row(name: str, arm: Alone | Ddp | Diloco, tune: Grid | str | None, against: str = "") -> Row:
    return Row(name, arm, tune, ALONE, DDP, against)
