"""The rows of `scripts/bench convergence`: which arms are trained, and on what grid each is tuned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from barnraise.contract.spec import Dense, Full, Lora
from scripts.benchmarks.arms.arms import (
    ADAMW,
    FULL,
    MUON,
    Alone,
    Arm,
    Ddp,
    Diloco,
    Hivemind,
    dense,
    outer,
    sparse,
    with_rate,
)
from scripts.benchmarks.arms.plan import Row
from scripts.benchmarks.arms.tuning import Grid, free, rates

ADAPTER = Lora(rank=8, alpha=16.0)
SPEEDS = (1.0, 1.0, 0.5, 0.2)
DECAY = 0.5
"""The last share of the steps, in which the rate decays."""
SIGNS = Dense(bits=1, block=256)
"""20 rounds of it send a hundredth of what hivemind.Optimizer does in 160 steps with 8 machines."""
AVERAGE = 4
"""Last states, of which a mean is made."""
Target = Literal["full", "LoRA"]

ALONE, DDP = "one machine alone", "DDP (fp32 ring, computed)"
HIVEMIND = "hivemind.Optimizer, a step every batch"
MEAN = "mean"
MEAN_4_BIT, MEAN_2_BIT = "mean, 4 bit", "mean, 2 bit"
SPARSE = "mean, sparse 1/8, 2 bit"
NESTEROV = "Nesterov, 4 bit"
NESTEROV_2_BIT = "Nesterov, 2 bit"
NESTEROV_1_BIT, NESTEROV_SIGNS = "Nesterov, 1 bit", "Nesterov, H = 8, 1 bit"
NESTEROV_SHORT, NESTEROV_SHORTEST = "Nesterov, H = 10, 2 bit", "Nesterov, H = 5, 2 bit"
NESTEROV_SPARSE = "Nesterov, H = 10, sparse 1/8, 2 bit"
MUON_SUFFIX = " (Muon)"
LATE, SPEED, TURNS = "a third late", "speeds 1, 1, 0.5, 0.2", "turns of two"
EQUAL_WEIGHTS = f"{MEAN_4_BIT}, {SPEED}, equal weights"


@dataclass(frozen=True)
class Method:
    """What the rows of one group share."""

    target: Full | Lora
    rate: float
    """The first rate that is tried."""
    outer: tuple[float, float] = (0.7, 0.5)
    """The first outer step that is tried: rate and momentum."""

    @property
    def prefix(self) -> str:
        return "LoRA: " if isinstance(self.target, Lora) else ""

    def row(self, name: str, arm: Arm, tune: Grid | str | None, against: str = "") -> Row:
        """A row of this group; the names in it are completed by the group's prefix."""
        alone, ddp = self.prefix + ALONE, self.prefix + DDP
        tune = self.prefix + tune if isinstance(tune, str) else tune
        against = self.prefix + against if against else ""
        return Row(self.prefix + name, arm, tune, alone, ddp, against)


def rows(peers: int, targets: Sequence[Target]) -> list[Row]:
    """The rows for `peers` machines; above 4, only those that show how results scale."""
    found: list[Row] = []
    for target in targets:
        method = _method(target, peers)
        found += _few(method, peers)
        if peers <= 4:
            found += [*_codecs(method), *_conditions(method, peers), *_ends(method)]
        if peers <= 4 and target == "LoRA":
            found += _ranks()
        if peers <= 8:
            found += _muon(method)
        if target == "full":
            found += _hivemind(peers)
    return found


def _method(target: Target, peers: int) -> Method:
    step = (0.7, 0.5) if peers <= 4 else (0.7, 0.7)
    return Method(FULL, 2e-3, step) if target == "full" else Method(ADAPTER, 5e-3, step)


def _few(method: Method, peers: int) -> Iterator[Row]:
    """With 16 machines, where a cell takes minutes, only short rounds, one arm at the best settings of 8."""
    target, grid = method.target, free(method.rate, *method.outer)
    nesterov = Diloco(codec=dense(4), target=target, outer=outer(*method.outer))
    short = replace(nesterov, steps=10, codec=dense(2))
    yield method.row(ALONE, Alone(target), rates(method.rate))
    yield method.row(DDP, Ddp(target), rates(method.rate))
    if peers <= 8:
        yield method.row(MEAN_4_BIT, Diloco(codec=dense(4), target=target), rates(method.rate))
        yield method.row(NESTEROV, nesterov, grid, MEAN_4_BIT)
        yield method.row(NESTEROV_2_BIT, replace(nesterov, codec=dense(2)), NESTEROV, NESTEROV)
        yield method.row(NESTEROV_1_BIT, replace(nesterov, codec=SIGNS), NESTEROV, NESTEROV_2_BIT)
        signs = replace(nesterov, steps=8, codec=SIGNS)
        yield method.row(NESTEROV_SIGNS, signs, grid, NESTEROV_2_BIT)
        averaged = replace(signs, average=AVERAGE)
        yield method.row(f"{NESTEROV_SIGNS}, mean of {AVERAGE}", averaged, NESTEROV_SIGNS, NESTEROV_SIGNS)
    else:
        as_with_8 = with_rate(replace(short, steps=5, outer=outer(0.5, 0.5)), 1e-2)
        yield method.row(f"{NESTEROV_SHORTEST}, as with 8 machines", as_with_8, None)
    yield method.row(NESTEROV_SHORT, short, grid, NESTEROV if peers <= 8 else "")
    averaged = replace(short, average=AVERAGE)
    yield method.row(f"{NESTEROV_SHORT}, mean of {AVERAGE}", averaged, NESTEROV_SHORT, NESTEROV_SHORT)
    yield method.row(NESTEROV_SHORTEST, replace(short, steps=5), grid, NESTEROV_SHORT)
    few_bytes = replace(short, codec=sparse(1 / 8))
    yield method.row(NESTEROV_SPARSE, few_bytes, NESTEROV_SHORT, NESTEROV_SHORT)


def _codecs(method: Method) -> Iterator[Row]:
    target = method.target
    yield method.row(MEAN, Diloco(target=target), MEAN_4_BIT)
    yield method.row(MEAN_2_BIT, Diloco(codec=dense(2), target=target), MEAN_4_BIT, MEAN)
    yield method.row(SPARSE, Diloco(codec=sparse(1 / 8), target=target), MEAN_4_BIT, MEAN)
    fine = Diloco(steps=10, codec=dense(4), target=target)
    yield method.row("Nesterov, H = 10, 4 bit", fine, NESTEROV_SHORT, NESTEROV)


def _conditions(method: Method, peers: int) -> Iterator[Row]:
    """What volunteers at home are like, with the mean and with momentum, each against all in time."""
    speeds = (SPEEDS * peers)[:peers]
    for name in (MEAN_4_BIT, NESTEROV):
        arm = Diloco(codec=dense(4), target=method.target)
        yield method.row(f"{name}, {LATE}, trained on from", replace(arm, late="kept"), name, name)
        yield method.row(f"{name}, {LATE}, dropped", replace(arm, late="dropped"), name, name)
        yield method.row(f"{name}, {SPEED}", replace(arm, speeds=speeds), name, name)
        yield method.row(f"{name}, {TURNS}", replace(arm, turns=2), name, name)
        yield method.row(f"{name}, overlap, 5 of 20 steps ahead", replace(arm, ahead=5), name, name)
    arm = Diloco(codec=dense(4), target=method.target, speeds=speeds, weights="uniform")
    yield method.row(EQUAL_WEIGHTS, arm, MEAN_4_BIT, f"{MEAN_4_BIT}, {SPEED}")
    owed = Diloco(codec=dense(4), target=method.target, late="owed")
    yield method.row(f"{MEAN_4_BIT}, {LATE}, into the residual", owed, MEAN_4_BIT, MEAN_4_BIT)


def _ends(method: Method) -> Iterator[Row]:
    """What a decay and the mean of the last states add, at the same rate and at the best one with a decay."""
    short = Diloco(steps=10, codec=dense(2), target=method.target, outer=outer(*method.outer))
    rounds = replace(short, decay=DECAY)
    yield method.row(f"{NESTEROV_SHORT}, decay", rounds, free(method.rate, *method.outer), NESTEROV_SHORT)
    yield method.row(f"{ALONE}, decay", Alone(method.target, decay=DECAY), rates(method.rate), ALONE)
    yield method.row(f"{DDP}, decay", Ddp(method.target, decay=DECAY), rates(method.rate), DDP)


def _ranks() -> Iterator[Row]:
    """How the best rate depends on the rank: with a constant scale, and with one of 1 / sqrt(rank)."""
    for rank in (2, 32):
        for name, scale in (("scale 2", 2.0), ("rank-stabilised", 2 * (8 / rank) ** 0.5)):
            target = Lora(rank=rank, alpha=scale * rank)
            yield Row(f"LoRA of rank {rank}, {name}: {ALONE}", Alone(target, machines=1), rates(3e-3))


def _muon(method: Method) -> Iterator[Row]:
    """Shares of the gain are of what DDP by AdamW gains."""
    first = rates(5e-3)
    yield method.row(ALONE + MUON_SUFFIX, Alone(method.target, MUON), first, ALONE)
    yield method.row(DDP + MUON_SUFFIX, Ddp(method.target, MUON), first, DDP)
    arm = Diloco(codec=dense(2), target=method.target, inner=MUON)
    yield method.row(MEAN_2_BIT + MUON_SUFFIX, arm, first, NESTEROV_2_BIT)
    yield method.row("outer step, 2 bit" + MUON_SUFFIX, arm, free(5e-3, 1.0, 0.0), MEAN_2_BIT + MUON_SUFFIX)


def _hivemind(peers: int) -> Iterator[Row]:
    yield Row(HIVEMIND, Hivemind(inner=ADAMW), DDP, against=DDP, once=peers > 4)
    if peers <= 4:
        yield Row("hivemind.Optimizer, a step every 20 batches", Hivemind(epoch_steps=20), DDP, once=True)
        yield Row(
            "hivemind.Optimizer, local updates, H = 20",
            Hivemind(epoch_steps=20, local_updates=True), MEAN_4_BIT, once=True,
        )  # fmt: skip
