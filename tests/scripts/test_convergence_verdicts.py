"""The pure parts of `scripts/bench convergence`: its table and its verdicts."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from scripts.benchmarks.convergence.arms import Diloco, Outcome, key
from scripts.benchmarks.convergence.baseline import Baseline
from scripts.benchmarks.convergence.measure import dense, rows, sparse
from scripts.benchmarks.convergence.verdicts import (
    ALONE,
    AVERAGE,
    BY_TOKENS,
    DDP,
    EQUALLY,
    HIVEMIND,
    LATE_ARMS,
    Results,
    comparable,
    convergence_table,
    paired,
    verdicts,
)


def outcomes(losses: Mapping[str, list[float]], once: Mapping[str, float] | None = None) -> Results:
    """Three times as many bytes by all-gather as once, except for hivemind, which has one count."""
    sizes = once or {}
    return {
        name: [
            Outcome(loss, sizes.get(name, 1.0), sizes.get(name, 1.0) * (1 if name == HIVEMIND else 3))
            for loss in each
        ]
        for name, each in losses.items()
    }


def test_differences_are_of_the_same_seed() -> None:
    found = outcomes({"4 bit": [1.01, 2.02], AVERAGE: [1.0, 2.0]})
    difference = paired(found, "4 bit", AVERAGE)
    assert difference.mean == pytest.approx(1.0)
    assert difference.spread == pytest.approx(0.0, abs=1e-9)


def test_spread_is_between_seeds_and_none_for_one() -> None:
    assert paired(outcomes({"a": [1.1, 1.3], "b": [1.0, 1.0]}), "a", "b").spread == pytest.approx(200**0.5)
    assert paired(outcomes({"a": [1.1], "b": [1.0]}), "a", "b").spread == 0


@pytest.mark.parametrize(("two_bit", "word"), [(1.0029, "met"), (1.0031, "missed")])
def test_a_codec_is_judged_by_its_mean_difference(two_bit: float, word: str) -> None:
    (line,) = verdicts(outcomes({"2 bit": [two_bit] * 3, AVERAGE: [1.0] * 3}))
    assert word in line
    assert "2 bit" in line


def test_the_best_arm_is_among_those_that_send_little_enough() -> None:
    losses = {HIVEMIND: [1.0], ALONE: [1.3], DDP: [1.0], "4 bit": [0.99], "2 bit": [1.005], "sparse": [1.02]}
    lines = verdicts(outcomes(losses, once={HIVEMIND: 300.0, "4 bit": 2.0, "2 bit": 1.0, "sparse": 0.5}))
    by_all_gather, gain, as_sent, _ = lines
    assert "2 bit: +0.50 %" in by_all_gather
    assert "98 %" in gain
    assert "4 bit: -1.00 %" in as_sent


def test_targets_are_missed_when_no_arm_sends_little_enough() -> None:
    losses = {HIVEMIND: [1.0], ALONE: [1.3], DDP: [1.0], "4 bit": [1.0]}
    lines = verdicts(outcomes(losses, once={HIVEMIND: 99.0, "4 bit": 1.0}))
    assert len(lines) == 2
    assert all("missed" in line and "no arm" in line for line in lines)


def test_a_gain_of_half_of_ddps_is_too_little() -> None:
    losses = {HIVEMIND: [1.0], ALONE: [1.2], DDP: [1.0], "4 bit": [1.1]}
    lines = verdicts(outcomes(losses, once={HIVEMIND: 900.0}))
    assert all("missed" in line for line in lines)
    assert "50 %" in lines[1]


def test_weights_and_lateness_are_judged() -> None:
    late, reference = LATE_ARMS[0]
    found = outcomes({BY_TOKENS: [1.0], EQUALLY: [1.01], late: [1.006], reference: [1.0]})
    weights, lateness = verdicts(found)
    assert "- met" in weights
    assert "missed" in lateness
    assert "- met" not in verdicts(outcomes({BY_TOKENS: [1.0], EQUALLY: [0.99]}))[0]


def test_arms_that_were_not_run_are_neither_shown_nor_judged() -> None:
    found = outcomes({"4 bit": [1.0, 1.0], AVERAGE: [1.0]})
    assert not comparable(found, "4 bit", AVERAGE)
    assert not comparable(found, "4 bit", "2 bit")
    assert verdicts(found) == []
    table = convergence_table(rows(4), found)
    assert "| 4 bit | 1.0000 | – | – |" in table
    assert "2 bit" not in table


def test_every_row_is_an_arm_of_its_own_and_every_reference_a_row() -> None:
    for peers in (4, 8):
        every = rows(peers)
        names = [row.name for row in every]
        assert len(set(names)) == len(names)
        assert len({key(row.arm) for row in every}) == len(names)
        assert {row.reference for row in every} <= set(names)


def test_the_targets_name_rows_that_exist() -> None:
    names = {row.name for row in rows(4)}
    assert {ALONE, AVERAGE, DDP, HIVEMIND, BY_TOKENS, EQUALLY, "4 bit", "2 bit"} <= names
    assert {name for pair in LATE_ARMS for name in pair} <= names


def test_a_key_distinguishes_settings() -> None:
    arms = [
        Diloco(),
        Diloco(ahead=1),
        Diloco(codec=dense(2)),
        Diloco(codec=sparse(1 / 8)),
        Baseline(),
        Baseline(2),
    ]
    assert len({key(arm) for arm in arms}) == len(arms)
    assert key(Diloco(codec=dense(2))) == key(Diloco(codec=dense(2)))
