"""What each contribution weighs: no key, and no crowd of new keys, decides a round."""

from __future__ import annotations

from fractions import Fraction
from statistics import median_high

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnraise.contract.standing import Level, Standing
from barnraise.contract.trust_spec import TrustSpec
from barnraise.contract.weights import (
    Claim,
    ClaimLimited,
    KeyShareLimited,
    Limits,
    NoWeight,
    OnProbation,
    ProbationShareLimited,
    Weighed,
    weigh,
)

LIMITS = Limits.of(TrustSpec(probation_work=9))
HUGE = 2**40 - 1
"""The most tokens that a commit can claim."""

levels: st.SearchStrategy[Level] = st.sampled_from(["probation", "trusted", "suspended", "banned"])
tokens = st.one_of(st.integers(1, HUGE), st.integers(1, 30), st.just(1000))
claims = st.lists(st.builds(Claim, tokens, st.builds(Standing, levels, st.integers(0, 20))), max_size=30)
fractions = st.fractions(min_value=0, max_value=Fraction(49, 50), max_denominator=50)
limits = st.builds(
    Limits,
    probation_share=fractions,
    key_share=fractions.map(lambda share: 1 - share),
    claim_factor=st.integers(1, 9),
    probation_work=st.integers(0, 20),
)


def trusted(*tokens: int) -> list[Claim]:
    return [Claim(count, Standing("trusted")) for count in tokens]


def new(*tokens: int, work: int = 0) -> list[Claim]:
    return [Claim(count, Standing("probation", work)) for count in tokens]


def weights(claims: list[Claim], limits: Limits = LIMITS) -> list[int]:
    return [weighed.weight for weighed in weigh(claims, limits)]


def sums(claims: list[Claim], found: tuple[Weighed, ...]) -> tuple[int, int, int]:
    """Of trusted keys, of keys on probation, of the largest weight."""
    by = {"trusted": 0, "probation": 0, "suspended": 0, "banned": 0}
    for claim, weighed in zip(claims, found, strict=True):
        by[claim.standing.level] += weighed.weight
    return by["trusted"], by["probation"], max((weighed.weight for weighed in found), default=0)


@given(claims, limits)
def test_no_weight_is_above_its_limits(claims: list[Claim], limits: Limits) -> None:
    found = weigh(claims, limits)
    assert len(found) == len(claims)
    of_trusted, of_new, _ = sums(claims, found)
    counted = [claim.tokens for claim in claims if claim.standing.level == "trusted"]
    counted = counted or [claim.tokens for claim in claims if claim.standing.level == "probation"]
    for claim, weighed in zip(claims, found, strict=True):
        assert 0 <= weighed.weight <= weighed.tokens <= claim.tokens
        assert (weighed.weight < claim.tokens) == bool(weighed.limited)
        assert weighed.trusted == (claim.standing.level == "trusted")
        if claim.standing.level in ("suspended", "banned"):
            assert (weighed.weight, weighed.tokens) == (0, 0)
            assert [type(why) for why in weighed.limited] == [NoWeight]
        else:
            assert weighed.tokens == min(claim.tokens, limits.claim_factor * median_high(counted))
    if of_trusted:
        assert of_new <= limits.probation_share * (of_trusted + of_new)


@given(claims, limits)
def test_no_key_is_above_its_share_of_its_level(claims: list[Claim], limits: Limits) -> None:
    found = weigh(claims, limits)
    for level in ("trusted", "probation"):
        weights = [w.weight for c, w in zip(claims, found, strict=True) if c.standing.level == level]
        if len(weights) < 5 or len(weights) * limits.key_share < 1:
            continue
        if level == "trusted" or not any(weighed.trusted for weighed in found):
            assert max(weights) <= limits.key_share * sum(weights)


@given(claims, limits)
def test_only_keys_without_weight_leave_a_round_without_weight(claims: list[Claim], limits: Limits) -> None:
    may = [claim for claim in claims if claim.standing.level in ("trusted", "probation")]
    assert any(weights(claims, limits)) == bool(may)


@given(claims, limits)
def test_a_key_without_audited_work_weighs_nothing_while_trusted_keys_take_part(
    claims: list[Claim], limits: Limits
) -> None:
    bounded = any(claim.standing.level == "trusted" for claim in claims)
    for claim, weight in zip(claims, weights(claims, limits), strict=True):
        if claim.standing == Standing("probation"):
            assert bool(weight) != bounded


@given(claims, st.randoms(use_true_random=False))
def test_the_order_does_not_matter(claims: list[Claim], random: object) -> None:
    order = list(range(len(claims)))
    random.shuffle(order)  # type: ignore[attr-defined]
    found, shuffled = weigh(claims, LIMITS), weigh([claims[place] for place in order], LIMITS)
    assert shuffled == tuple(found[place] for place in order)


@given(st.integers(1, HUGE))
def test_a_key_gains_nothing_by_claiming_more_than_its_limit(more: int) -> None:
    honest = trusted(1000, 1000, 1000, 1000)
    assert weights([*honest, *trusted(4000)]) == weights([*honest, *trusted(4000 + more)])


def test_honest_keys_weigh_their_tokens() -> None:
    assert weigh(trusted(100, 137), LIMITS) == (Weighed(100, 100, True), Weighed(137, 137, True))


def test_a_fast_machine_among_few_keeps_four_times_the_median() -> None:
    assert weigh(trusted(1000, 1000, 9000), LIMITS)[2] == Weighed(4000, 4000, True, (ClaimLimited(4000),))
    assert weights(trusted(1000, 9000)) == [1000, 9000]  # of two, the larger one is the median


def test_one_key_that_claims_two_to_the_fortieth_has_a_quarter_at_most() -> None:
    found = weigh(trusted(1000, 1000, 1000, 1000, 1000, 1000, 1000, HUGE), LIMITS)
    assert found[-1].limited == (ClaimLimited(4000), KeyShareLimited(Fraction(1, 4)))
    assert (found[-1].weight, found[-1].tokens) == (2333, 4000)


def test_two_hundred_new_keys_have_nothing() -> None:
    found = weigh([*trusted(1000, 1000, 1000), *new(*[HUGE] * 200)], LIMITS)
    assert sums([*trusted(1000, 1000, 1000), *new(*[HUGE] * 200)], found)[:2] == (3000, 0)
    assert found[-1].limited == (ClaimLimited(4000), OnProbation(0, 9))


def test_two_hundred_keys_with_work_have_a_fifth() -> None:
    found = weigh([*trusted(1000, 1000, 1000), *new(*[HUGE] * 200, work=1)], LIMITS)
    assert sums([*trusted(1000, 1000, 1000), *new(*[HUGE] * 200)], found)[:2] == (3000, 600)
    assert found[-1].limited == (
        ClaimLimited(4000), OnProbation(1, 9), ProbationShareLimited(Fraction(1, 5)),
    )  # fmt: skip


@pytest.mark.parametrize(("work", "weight"), [(0, 0), (1, 200), (4, 500), (9, 1000), (30, 1000)])
def test_a_new_key_grows_with_audited_work(work: int, weight: int) -> None:
    assert weights([*trusted(9000, 9000), *new(1000, work=work)]) == [9000, 9000, weight]


def test_new_keys_alone_weigh_by_their_work() -> None:
    assert weights([*new(1000), *new(1000, work=9)]) == [100, 1000]


def test_a_new_key_with_few_tokens_weighs_something() -> None:
    assert weights([*trusted(100), *new(3, work=1)]) == [100, 1]
    assert weights([*trusted(100), *new(3)]) == [100, 0]


@pytest.mark.parametrize("level", ["suspended", "banned"])
def test_keys_without_weight_do_not_count_among_the_keys(level: Level) -> None:
    found = weigh([*trusted(1, 1, 1, 100), *[Claim(HUGE, Standing(level))] * 9], LIMITS)
    assert [weighed.weight for weighed in found[:4]] == [1, 1, 1, 4]
    assert sum(weighed.weight for weighed in found) == 7


def test_equal_claims_are_equal() -> None:
    assert weights(trusted(*[7] * 12)) == [7] * 12


def test_a_small_share_needs_as_many_keys() -> None:
    tenth = Limits.of(TrustSpec(key_share=0.1))
    assert weights(trusted(*[10] * 8, 40), tenth)[-1] == 40
    assert weights(trusted(*[10] * 9, 40), tenth)[-1] == 10
