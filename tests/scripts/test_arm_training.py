"""The arms train as they say: `scripts/benchmarks/arms/training.py`, on a tiny model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from barnraise.contract.spec import InnerSpec, Lora
from scripts.benchmarks.arms.arms import Alone, Batches, Ddp, Diloco, Untrained, outer
from scripts.benchmarks.arms.training import Workload, run
from tests.support.tiny import make_tiny_model, tiny_samples

TARGET = Lora(rank=2, alpha=4.0, modules=("q_proj", "v_proj"))
INNER = InnerSpec(lr=1e-2, clip_norm=0.0)
STEPS = 4


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("arms") / "model")


def workload(base: Path, peers: int, *, equal: bool = False) -> Workload:
    batches: Batches = [
        [tiny_samples(2, seed=step if equal else 10 * peer + step) for step in range(STEPS)]
        for peer in range(peers)
    ]
    known = batches[0][0]  # text that was trained on: random tokens teach nothing about others
    return Workload(base, batches, known, seed=2, others={"other": known}, watched=known)


def loss(base: Path, arm: Alone | Ddp | Diloco, peers: int = 2, *, equal: bool = False) -> float:
    return run(arm, workload(base, peers, equal=equal)).loss


def test_one_machine_is_the_same_in_every_arm(base: Path) -> None:
    alone = loss(base, Alone(TARGET, INNER), 1)
    assert loss(base, Ddp(TARGET, INNER), 1) == pytest.approx(alone, rel=1e-5)
    assert loss(base, Diloco(2, target=TARGET, inner=INNER), 1) == pytest.approx(alone, rel=1e-5)
    assert alone < run(Untrained(TARGET), workload(base, 1)).loss


def test_equal_machines_gain_nothing_from_their_mean(base: Path) -> None:
    alone = loss(base, Alone(TARGET, INNER), 1)
    assert loss(base, Diloco(2, target=TARGET, inner=INNER), 2, equal=True) == pytest.approx(alone, rel=1e-5)
    faster = Diloco(2, target=TARGET, inner=INNER, outer=outer(1.5, 0.5))
    assert loss(base, faster, 2, equal=True) != pytest.approx(alone, rel=1e-4)


def test_turns_lose_no_work(base: Path) -> None:
    """With the mean, what a machine trains between its turns is in its next contribution."""
    turns = run(Diloco(1, target=TARGET, inner=INNER, turns=2), workload(base, 2))
    every = run(Diloco(1, target=TARGET, inner=INNER), workload(base, 2))
    assert turns.once == every.once / 2
    assert turns.loss < run(Untrained(TARGET), workload(base, 2)).loss


def test_curves_end_at_the_outcome(base: Path) -> None:
    outcome = run(Diloco(2, target=TARGET, inner=INNER), workload(base, 2))
    assert [steps for steps, _ in outcome.curve] == [2, 4]
    assert outcome.curve[-1][1] == outcome.loss == outcome.others["other"]
    assert outcome.sent == outcome.once  # two machines: each sends its own once


def test_late_work_that_is_trained_on_from_is_not_lost(base: Path) -> None:
    arms = {fate: Diloco(1, target=TARGET, inner=INNER, late=fate) for fate in ("none", "kept", "dropped")}
    losses = {fate: loss(base, arm, 3) for fate, arm in arms.items()}
    assert len(set(np.round(list(losses.values()), 9))) == 3
