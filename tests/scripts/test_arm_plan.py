"""Which cells a comparison needs, and what its rows amount to: `scripts/benchmarks/arms/`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.benchmarks.arms.arms import Alone, Arm, Ddp, Diloco, Hivemind, dense, key, sparse
from scripts.benchmarks.arms.cells import Results
from scripts.benchmarks.arms.comparison import difference, found_of, gain
from scripts.benchmarks.arms.plan import TUNING_SEED, Cell, Chosen, Plan, Row, grid_lines
from scripts.benchmarks.arms.statistics import interval, paired, share_of_gain
from scripts.benchmarks.arms.training import Outcome
from scripts.benchmarks.arms.tuning import RATES, free, rates

ROWS = [
    Row("alone", Alone(), rates(1e-3)),
    Row("ddp", Ddp(), rates(1e-3)),
    Row("mean", Diloco(), free(1e-3), "alone", "ddp", against="alone"),
    Row("thin", Diloco(codec=dense(2)), "mean", "alone", "ddp", against="mean"),
    Row("as it is", Diloco(ahead=5), None),
    Row("bytes", Hivemind(), "ddp", once=True),
]
PLAN = Plan(ROWS, (1, 2))


def finish(plan: Plan, loss: Callable[[Cell], float]) -> dict[str, Outcome]:
    done: dict[str, Outcome] = {}
    while cells := plan.missing(done):
        assert len({cell.name for cell in cells}) == len(cells)
        done |= {cell.name: Outcome(loss(cell), 1, 3) for cell in cells}
    return done


def by_rate(cell: Cell) -> float:
    """Lowest at 2e-3; machines alone are worse by 1, others than DDP by 0.25."""
    far = abs(RATES.index(cell.arm.inner.lr) - RATES.index(2e-3))
    momentum = cell.arm.outer.momentum if isinstance(cell.arm, Diloco) else 0
    return 2 + far + momentum + {Alone: 1.0, Diloco: 0.25}.get(type(cell.arm), 0.0)


def test_settings_are_chosen_on_a_seed_of_their_own() -> None:
    done = finish(PLAN, by_rate)
    chosen = PLAN.chosen(PLAN.row("mean"), done)
    assert isinstance(chosen, Chosen)
    assert isinstance(chosen.arm, Diloco)
    assert (chosen.arm.inner.lr, chosen.arm.outer.momentum) == (2e-3, 0)
    assert TUNING_SEED not in PLAN.seeds
    tuned = [name for name in done if name.startswith(f"seed {TUNING_SEED}:")]
    assert len(tuned) > 8
    assert not any(key(Diloco(ahead=5)) in name for name in tuned)


def test_machines_alone_are_tuned_on_one_of_them_and_otherwise_as_they_run() -> None:
    plan = Plan([Row("decays", Alone(decay=0.5), rates(1e-3))], (1,))
    (first,) = plan.missing({})
    assert first.arm == Alone(inner=first.arm.inner, machines=1, decay=0.5)


def test_a_row_like_another_has_its_settings_and_its_own_arm() -> None:
    chosen = PLAN.chosen(PLAN.row("thin"), finish(PLAN, by_rate))
    assert isinstance(chosen, Chosen)
    assert chosen.arm.inner.lr == 2e-3
    assert isinstance(chosen.arm, Diloco)
    assert chosen.arm.codec == dense(2)


def test_every_row_runs_with_every_seed_and_one_with_the_first() -> None:
    done = finish(PLAN, by_rate)
    assert [len(PLAN.outcomes(row, done)) for row in ROWS] == [2, 2, 2, 2, 2, 1]
    assert PLAN.missing(done) == []


def test_nothing_is_an_outcome_before_all_seeds_are_done() -> None:
    done = finish(PLAN, by_rate)
    name = next(name for name in done if name.startswith("seed 2: Alone"))
    del done[name]
    assert PLAN.outcomes(PLAN.row("alone"), done) == []
    assert [cell.name for cell in PLAN.missing(done)] == [name]


def test_a_row_brings_those_that_it_needs() -> None:
    names = [row.name for row in PLAN.only(["thin"]).rows]
    assert names == ["alone", "ddp", "mean", "thin"]


def test_a_row_is_named_whole_or_by_a_part_of_several_names() -> None:
    plan = Plan([Row("mean, decay", Diloco()), Row("mean", Diloco()), Row("thin", Diloco())], (1,))
    assert [row.name for row in plan.only(["mean"]).rows] == ["mean"]
    assert [row.name for row in plan.only(["mea"]).rows] == ["mean, decay", "mean"]
    assert [row.name for row in plan.only([""]).rows] == ["mean, decay", "mean", "thin"]


def test_settings_are_taken_from_another_workload() -> None:
    taken = PLAN.with_settings_of(finish(PLAN, by_rate))
    assert [row.name for row in taken.rows] == [row.name for row in ROWS]
    assert [taken.row(name).arm.inner.lr for name in ("alone", "thin")] == [2e-3, 2e-3]
    assert {cell.seed for cell in taken.missing({})} == {1, 2}, "nothing is tuned"
    assert [row.name for row in PLAN.with_settings_of({}).rows] == ["as it is"]


def test_a_share_of_the_gain_is_between_the_rows_references() -> None:
    found = found_of(PLAN, finish(PLAN, by_rate))
    share = gain(found, "thin")
    assert share is not None
    assert share.mean == pytest.approx(75)
    assert gain(found, "alone") is None
    assert difference(found, "bytes", "ddp") is None  # not as many seeds
    cost = difference(found, "thin", "alone")
    assert cost is not None
    assert cost.mean == pytest.approx(-25)


def test_the_grid_says_where_the_best_settings_are() -> None:
    lines = list(grid_lines(PLAN, finish(PLAN, by_rate)))
    assert len(lines) == 3
    assert all("best 0.002" in line and "interior" in line for line in lines)
    lowest = finish(Plan(ROWS[:1], (1,)), lambda cell: cell.arm.inner.lr)
    assert "at the edge" in next(grid_lines(Plan(ROWS[:1], (1,)), lowest))


def test_intervals_are_students() -> None:
    three = interval([1.0, 2.0, 3.0])
    assert three.mean == 2
    assert three.half == pytest.approx(4.303 / 3**0.5)
    assert f"{three:+.1f}" == "+2.0 ± 2.5"
    assert f"{interval([1.5]):.1f}" == "1.5"


def test_differences_are_of_the_same_seed() -> None:
    assert paired([1.01, 2.02], [1.0, 2.0]).mean == pytest.approx(1)
    assert paired([1.01, 2.02], [1.0, 2.0]).half == pytest.approx(0, abs=1e-9)
    assert share_of_gain([1.5, 3.0], [2.0, 4.0], [1.0, 2.0]).mean == pytest.approx(50)


def test_a_key_distinguishes_settings() -> None:
    arms: list[Arm] = [
        Diloco(),
        Diloco(ahead=1),
        Diloco(turns=2),
        Diloco(codec=dense(2)),
        Diloco(codec=sparse(1 / 8)),
        Hivemind(),
        Hivemind(epoch_steps=2),
    ]
    assert len({key(arm) for arm in arms}) == len(arms)


def test_workloads_share_a_results_file(tmp_path: Path) -> None:
    cell = Cell("alone", Alone(), 1)
    outcome = Outcome(1.5, 2, 3, others={"novel": 3.5}, curve=((8, 2.5),))
    Results(tmp_path / "found.json", "4 peers,").add(cell, outcome)
    assert Results(tmp_path / "found.json", "4 peers,").done == {cell.name: outcome}
    assert Results(tmp_path / "found.json", "8 peers,").done == {}
