"""The sequential test: its error rate on the worst honest key, and how soon it finds harm."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnraise.contract.evidence import (
    ALPHA,
    CLEAN_ALPHA,
    FLOOR,
    HARMFUL,
    TOLERANCE,
    UNIT,
    Account,
    Claim,
    account_of,
)

SCORES = st.lists(st.integers(-2 * UNIT, 2 * UNIT), max_size=30)
CLAIMS: tuple[Claim, ...] = ("harm", "clean")


@given(SCORES, st.sampled_from(CLAIMS))
def test_an_account_never_becomes_negative_or_infinite(scores: list[int], claim: Claim) -> None:
    assert 0 <= account_of(scores, claim).wealth < math.inf


def test_no_account_becomes_infinite_in_a_long_life() -> None:
    assert math.isfinite(account_of([FLOOR] * 5000, "clean").wealth)
    assert math.isfinite(account_of([UNIT] * 5000, "harm").wealth)


@pytest.mark.parametrize(
    ("claim", "scores", "share"),
    [
        ("harm", (FLOOR, UNIT), (TOLERANCE - FLOOR) / (UNIT - FLOOR)),
        ("clean", (FLOOR, UNIT), (HARMFUL - FLOOR) / (UNIT - FLOOR)),
    ],
)
def test_at_the_boundary_the_expected_wealth_stays_1(
    claim: Claim, scores: tuple[int, int], share: float
) -> None:
    """share: the probability of the higher score with which the hypothesis just holds."""
    expected = 0.0
    for path in product(scores, repeat=10):
        probability = math.prod(share if score == UNIT else 1 - share for score in path)
        expected += probability * account_of(path, claim).wealth
    assert expected == pytest.approx(1.0)


def test_the_worst_honest_keys_are_suspended_more_rarely_than_the_error_rate() -> None:
    """Ville: of keys whose expected score is exactly the tolerance, at most a share of ALPHA ever is."""
    random, share = np.random.default_rng(0), (TOLERANCE - FLOOR) / (UNIT - FLOOR)
    wealth, recent, most = np.ones(20_000), np.full(20_000, TOLERANCE / UNIT), np.ones(20_000)
    for _ in range(150):
        values = np.where(random.random(20_000) < share, 1.0, FLOOR / UNIT)
        eager = np.clip((recent - 0.1) / 0.3, 0, 1)
        wealth *= 1 + 0.9 / 0.2 * eager * (values - 0.1)
        recent, most = (recent + values) / 2, np.maximum(most, wealth)
    assert np.mean(most >= 10) <= 0.1
    assert np.mean(most >= 100) <= 0.01
    assert np.mean(most * ALPHA >= 1) <= 10 * ALPHA


def test_full_harm_is_found_in_seven_audits_also_after_long_honesty() -> None:
    for before in (Account(), account_of([FLOOR] * 1000, "harm")):
        account, audits = before, 0
        while not account.proves("harm"):
            account, audits = account.after(UNIT, "harm"), audits + 1
        assert audits == 7


def test_a_key_recovers_by_good_contributions_and_not_by_harm() -> None:
    account, audits = Account(), 0
    while not account.proves("clean"):
        account, audits = account.after(FLOOR, "clean"), audits + 1
    assert audits <= 20
    assert not account_of([HARMFUL] * 1000, "clean").proves("clean")
    assert account_of([0] * 100, "clean").wealth * CLEAN_ALPHA >= 1, "empty work does no harm"


def test_an_honest_key_s_account_stays_near_1() -> None:
    assert account_of([FLOOR] * 10_000, "harm").wealth == 1
    assert not account_of([*[FLOOR] * 20, UNIT] * 500, "harm").proves("harm"), "rare bad rounds are no harm"
