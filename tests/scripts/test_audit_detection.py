"""The error rate and the speed of the sequential test on measured scores (`scripts/bench audits`)."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from barnraise.contract.evidence import FLOOR, UNIT, Account, account_of
from scripts.benchmarks.audits.detection import (
    DRAWS,
    HONEST,
    Scores,
    detection_table,
    false_suspensions,
    scores_of,
    simulated,
    time_to_find,
    wealths,
)
from scripts.benchmarks.audits.statistics import Found

MEASURED = Path(__file__).parents[1] / "support" / "audit_figures.json"
ROUNDS = 10**6
"""Honest peer-rounds, over all kinds."""
WITHIN = 10
KINDS = tuple(json.loads(MEASURED.read_text()))


@cache
def measured() -> dict[str, Scores]:
    """Of what `scripts/bench audits` measured, in its file."""
    return {
        kind: scores_of((Found(*each) for each in found), seed=1)
        for kind, found in json.loads(MEASURED.read_text()).items()
    }


def test_many_accounts_at_once_are_those_of_the_contract() -> None:
    scores = np.random.default_rng(0).integers(FLOOR - 50, UNIT + 50, size=(5, 30))
    for row, found in zip(scores, wealths(scores), strict=True):
        account = Account()
        for score, wealth in zip(row, found, strict=True):
            account = account.after(int(score), "harm")
            assert wealth == pytest.approx(account.wealth, rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_no_honest_kind_is_suspended_in_a_million_rounds(kind: str) -> None:
    false, largest = false_suspensions(measured()[kind][HONEST], ROUNDS // len(KINDS), seed=2)
    assert false == 0
    assert largest >= 1


def test_keys_that_do_harm_would_be_suspended_in_the_same_simulation() -> None:
    false, _ = false_suspensions(measured()["4 bits"]["sign flip"], 10_000, seed=2)
    assert false == 50, "all of them"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("attack", ["sign flip", "inner product"])
@pytest.mark.parametrize("honest", [0, 50])
def test_harm_is_found_within_ten_audits_also_after_fifty_honest_rounds(
    kind: str, attack: str, honest: int
) -> None:
    found = time_to_find(measured()[kind][attack], seed=2, honest=honest)
    assert found is not None
    assert found[0] <= WITHIN


@pytest.mark.parametrize("attack", ["-1000 x", "label flip"])
def test_large_harm_is_found_in_seven(attack: str) -> None:
    assert time_to_find(measured()["4 bits"][attack], seed=2) == (7, 7)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "converged"])
@pytest.mark.parametrize("attack", ["noise", "10 x noise"])
def test_noise_is_found_within_ten_audits(kind: str, attack: str) -> None:
    for honest in (0, 50):
        found = time_to_find(measured()[kind][attack], seed=2, honest=honest)
        assert found is not None
        assert found[0] <= WITHIN


@pytest.mark.parametrize("attack", ["a little", "a little, 0.3"])
def test_what_does_no_harm_is_not_found(attack: str) -> None:
    scores = measured()["4 bits"][attack]
    assert time_to_find(scores, seed=2) is None
    assert np.mean(scores) < 0.1 * UNIT


def test_scores_are_of_the_round_s_own_reference() -> None:
    honest = [Found(peer, 0, "", -100, 1, 300_000) for peer in range(4)]
    bad, idle = Found(0, 0, "sign flip", 100, 1, -300_000), Found(0, 0, "noise", 0, 1, 0)
    assert scores_of([*honest, bad, idle], seed=1) == {
        HONEST: [[FLOOR] * DRAWS] * 4, "sign flip": [[UNIT] * DRAWS], "noise": [[UNIT] * DRAWS]
    }  # fmt: skip


def test_the_reference_is_of_the_last_three_rounds() -> None:
    rounds = [
        Found(peer, round, "", change, 0, 1)
        for round, change in enumerate((-900, -10, -10, -10))
        for peer in range(4)
    ]
    bad = [Found(0, round, "sign flip", 5, 0, 1) for round in range(4)]
    found = scores_of([*rounds, *bad], seed=1)["sign flip"][0]
    assert {*found[:DRAWS]} == {5}
    assert {*found[-DRAWS:]} == {500}


def test_a_simulated_key_keeps_one_peer_s_scores() -> None:
    drawn = simulated([[1, 2], [100, 200]], keys=50, life=20, seed=0)
    assert all({*row} <= {1, 2} or {*row} <= {100, 200} for row in drawn.tolist())


def test_the_table_has_all_kinds_and_attacks() -> None:
    few = {"4 bits": measured()["4 bits"]}
    text = detection_table(few, 2000, seed=1)
    assert all(name in text for name in few["4 bits"] if name != HONEST)
    assert account_of([], "harm") == Account()
