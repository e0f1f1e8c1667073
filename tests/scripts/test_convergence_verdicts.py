"""The pure parts of `scripts/bench convergence`: its rows, its table and its verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from scripts.benchmarks.arms.arms import Hivemind, key
from scripts.benchmarks.arms.comparison import Found, Results
from scripts.benchmarks.arms.plan import Chosen, Row
from scripts.benchmarks.arms.training import Outcome
from scripts.benchmarks.convergence.rows import (
    ALONE,
    DDP,
    EQUAL_WEIGHTS,
    HIVEMIND,
    LATE,
    MEAN,
    MEAN_2_BIT,
    MEAN_4_BIT,
    NESTEROV,
    NESTEROV_2_BIT,
    NESTEROV_SHORT,
    SPEED,
    Target,
    rows,
)
from scripts.benchmarks.convergence.verdicts import convergence_table, verdicts

TARGETS: Sequence[Target] = ("full", "LoRA")
BY_NAME = {row.name: row for row in rows(4, TARGETS)}


def results(losses: Mapping[str, list[float]], sent: Mapping[str, float] | None = None) -> Results:
    return {name: found(BY_NAME[name], each, (sent or {}).get(name, 3.0)) for name, each in losses.items()}


def found(row: Row, losses: Sequence[float], sent: float) -> Found:
    return Found(row, Chosen(row, row.arm, None), [Outcome(loss, sent / 3, sent) for loss in losses])


@pytest.mark.parametrize(("two_bit", "word"), [(1.0029, "met"), (1.0031, "missed")])
def test_a_codec_is_judged_by_its_mean_difference(two_bit: float, word: str) -> None:
    (line,) = verdicts(4, results({MEAN_2_BIT: [two_bit] * 3, MEAN: [1.0] * 3}))
    assert word in line
    assert MEAN_2_BIT in line


def test_the_best_arm_is_among_those_that_send_little_enough() -> None:
    losses = {HIVEMIND: [1.0], ALONE: [2.0], DDP: [1.0], NESTEROV_2_BIT: [1.1], NESTEROV_SHORT: [1.01]}
    sent = {HIVEMIND: 1000.0, NESTEROV_2_BIT: 10.0, NESTEROV_SHORT: 11.0}
    (line,) = verdicts(8, results(losses, sent))
    assert "- met" in line
    assert f"{NESTEROV_2_BIT}: 90 %" in line
    (line,) = verdicts(8, results(losses | {NESTEROV_2_BIT: [1.13]}, sent))
    assert "missed" in line


def test_an_adapter_is_judged_by_its_own_gain_and_bytes() -> None:
    losses = {f"LoRA: {ALONE}": [2.0], f"LoRA: {DDP}": [1.0], f"LoRA: {NESTEROV}": [1.08]}
    (line,) = verdicts(4, results(losses, {f"LoRA: {NESTEROV}": 0.65e6}))
    assert "- met" in line
    assert verdicts(4, results(losses, {f"LoRA: {NESTEROV}": 0.66e6})) == []


def test_weights_and_lateness_are_judged() -> None:
    late, speeds = f"{NESTEROV}, {LATE}, trained on from", f"{MEAN_4_BIT}, {SPEED}"
    found = results({speeds: [1.0], EQUAL_WEIGHTS: [1.01], late: [1.006], NESTEROV: [1.0]})
    weights, lateness = verdicts(4, found)
    assert "- met" in weights
    assert "missed" in lateness
    assert "- met" not in verdicts(4, results({speeds: [1.0], EQUAL_WEIGHTS: [0.99]}))[0]


def test_arms_that_were_not_run_are_neither_shown_nor_judged() -> None:
    done = results({MEAN_4_BIT: [1.0, 1.0], MEAN: [1.0]})
    assert verdicts(4, done) == []
    table = convergence_table(rows(4, TARGETS), done)
    assert f"| {MEAN_4_BIT} | 0.001, 1 / 0 | 1.0000 | – | – |" in table
    assert MEAN_2_BIT not in table


@pytest.mark.parametrize("peers", [4, 8, 16])
def test_every_row_has_a_name_and_every_reference_is_a_row(peers: int) -> None:
    every = rows(peers, TARGETS)
    names = [row.name for row in every]
    assert len(set(names)) == len(names)
    likes = {row.tune for row in every if isinstance(row.tune, str)}
    assert {row.against for row in every if row.against} | likes <= set(names)
    assert {name for row in every for name in (row.alone, row.ddp) if name} <= set(names)


def test_adapters_have_the_rows_of_full_training() -> None:
    full = {row.name for row in rows(4, ["full"]) if not isinstance(row.arm, Hivemind)}
    assert {f"LoRA: {name}" for name in full} <= {row.name for row in rows(4, ["LoRA"])}


def test_no_two_rows_train_the_same() -> None:
    untuned = [(key(row.arm), row.tune) for row in rows(4, TARGETS)]
    assert len(set(untuned)) == len(untuned)
