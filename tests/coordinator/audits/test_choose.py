"""Which contributions are audited, on which samples, and that the budget holds."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from barnraise.contract.assign import Assignment
from barnraise.contract.sample_ranges import SampleRange
from barnraise.contract.spec import Full
from barnraise.contract.standing import Level
from barnraise.core.ids import PublicKey, Round
from coordinator.audits.choose import (
    COMPUTE_SHARE,
    FEWEST_SAMPLES,
    SAMPLES,
    STEP_COSTS,
    Budget,
    assigned,
    audited_keys,
    secret_random,
    secret_samples,
)
from tests.support.parts import ADA, commit

SIZES = (30, 40, 50)
SECRET = b"secret"


def keys(count: int, first: int = 0) -> list[PublicKey]:
    return [PublicKey(f"{number:064x}") for number in range(first, first + count)]


def test_all_but_trusted_keys_are_audited_and_a_tenth_of_those() -> None:
    levels: dict[PublicKey, Level] = dict.fromkeys(keys(40), "trusted")
    levels.update(dict.fromkeys(keys(5, 100), "probation"))
    levels.update(dict.fromkeys(keys(2, 200), "suspended"))
    seen = set[PublicKey]()
    for round in range(200):
        chosen = audited_keys(levels, [keys(1)[0], *keys(1, 900)], secret_random(SECRET, "keys", round), 1)
        assert {*keys(5, 100), *keys(2, 200), keys(1)[0]} <= chosen <= levels.keys()
        assert len(chosen) == 5 + 2 + 1 + 4
        seen |= chosen
    assert seen == levels.keys(), "in time everybody is"


def test_nobody_without_the_secret_knows_who_is_audited() -> None:
    levels: dict[PublicKey, Level] = dict.fromkeys(keys(40), "trusted")
    drawn = [audited_keys(levels, (), secret_random(secret, "keys", 3), 1) for secret in (b"a", b"b", b"a")]
    assert drawn[0] == drawn[2] != drawn[1]


def test_a_single_trusted_key_is_audited() -> None:
    assert audited_keys({ADA.public: "trusted"}, (), secret_random(SECRET, "keys", 0), 3) == {ADA.public}
    assert audited_keys({}, (), secret_random(SECRET, "keys", 0), 3) == frozenset()


def test_more_trusted_keys_are_drawn_where_no_reference_is_known() -> None:
    levels: dict[PublicKey, Level] = dict.fromkeys(keys(8), "trusted")
    assert len(audited_keys(levels, (), secret_random(SECRET, "keys", 0), 3)) == 3


def test_secret_samples_are_none_that_was_assigned() -> None:
    ranges = (SampleRange(round=2, start=5, count=10), SampleRange(round=3, start=0, count=30))
    made = commit(ADA, round=3).model_copy(update={"ranges": ranges})
    taken = assigned([made], 7, SIZES)
    for each in ranges:
        of_round = Assignment(7, Round(each.round), ADA.public, SIZES)
        assert taken >= {*of_round.take(each.start, each.count)}
    found = secret_samples(taken, SIZES, SAMPLES, secret_random(SECRET, "samples", 3))
    assert len({*found}) == SAMPLES
    assert not taken & {*found}


def test_where_all_is_assigned_there_are_none() -> None:
    everything = {(shard, row) for shard, size in enumerate(SIZES) for row in range(size)}
    assert secret_samples(everything, SIZES, SAMPLES, secret_random(SECRET, "samples", 3)) == ()


rounds_of_a_run = st.lists(
    st.tuples(st.integers(1, 400), st.integers(0, 20), st.floats(0, 2000)), min_size=1, max_size=60
)


@given(rounds_of_a_run, st.booleans())
def test_audits_take_at_most_their_share_of_one_volunteer(
    rounds: list[tuple[int, int, float]], fails: bool
) -> None:
    """Starting the program and comparing included, also where that takes longer than the passes."""
    budget, allowed, used, fixed = Budget(), 0.0, 0.0, 0.0
    for samples, audited, other in rounds:
        budget = budget.after([samples] * 5, Full())
        allowed += COMPUTE_SHARE * STEP_COSTS["full"] * samples
        count = budget.samples_for(audited)
        if count is not None:
            assert FEWEST_SAMPLES <= count <= SAMPLES
            assert used + fixed + count * (audited + 1) <= allowed + 1e-6, "as far as the last one shows"
            fixed = fixed if fails else other
            used += count * (audited + 1) + fixed
            budget = budget.without(count * (audited + 1), None if fails else other)
    assert used <= allowed + fixed + 1e-6, "one audit can cost more than the one before"


def test_what_an_audit_takes_apart_from_its_passes_is_saved_before_the_next() -> None:
    budget = Budget().after([1000], Full()).without(64, 1700.0)
    waited = 0
    while budget.samples_for(1) is None:
        budget, waited = budget.after([1000], Full()), waited + 1
    per_round = COMPUTE_SHARE * STEP_COSTS["full"] * 1000
    assert waited == math.ceil((64 - per_round + 1700 + 1700 + 2 * FEWEST_SAMPLES) / per_round)
