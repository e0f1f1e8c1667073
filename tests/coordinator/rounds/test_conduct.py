"""For whom a close waits, by what volunteers did in the rounds before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from barnraise.contract.spec import RoundSpec
from barnraise.core.ids import PublicKey, Round
from coordinator.reasons.rounds import AllowanceSpent, MissedRounds
from coordinator.rounds.conduct import (
    FIRST_RETRY,
    MAX_SPEED,
    MOST_OWED,
    SHARE,
    STEADY,
    Conduct,
    RoundEnd,
)

SPEC = RoundSpec(seconds=20.0, grace=10.0)
LONGEST = 30.0
ADA, BEN, CEM = (PublicKey(letter * 64) for letter in "abc")


def after(conduct: Conduct, round: int, *owners: PublicKey, held_by: tuple[PublicKey, ...] = ()) -> Conduct:
    """A round of 10 s, 2 of them waiting where somebody held it up."""
    tokens = dict.fromkeys(owners, 100)
    return conduct.after(RoundEnd(Round(round), tokens, 10.0, held_by, 2.0))


def reason(conduct: Conduct, owner: PublicKey, round: int, waited: float = 0.0) -> object:
    return conduct.why_not_awaited(owner, Round(round), waited)


def test_a_newcomer_is_awaited_while_the_allowance_lasts() -> None:
    conduct = Conduct.first(SPEC)
    assert reason(conduct, ADA, 0, LONGEST - 0.1) is None
    assert reason(conduct, ADA, 0, LONGEST) == AllowanceSpent(0)


def test_one_round_missed_and_none_waits_until_it_contributed() -> None:
    conduct = after(Conduct.first(SPEC), 0, ADA, held_by=(BEN,))
    assert reason(conduct, ADA, 1) is None
    assert reason(conduct, BEN, 1) == MissedRounds(1, 1)
    assert reason(after(conduct, 1, ADA), BEN, 2) == MissedRounds(1, 1)
    assert reason(after(conduct, 1, ADA, BEN), BEN, 2) is None


def test_who_misses_rounds_again_owes_twice_as_many_contributions() -> None:
    conduct, owed = Conduct.first(SPEC), []
    for round in range(12):
        conduct = after(conduct, 2 * round, held_by=(BEN,))
        owed.append(conduct.of(BEN).owed)
    assert owed == [1, 2, 4, 8, 16, 32] + 6 * [MOST_OWED]


def test_a_close_waits_again_for_one_round_after_a_pause_that_doubles() -> None:
    conduct = after(Conduct.first(SPEC), 0, held_by=(BEN,))
    assert reason(conduct, BEN, FIRST_RETRY - 1) == MissedRounds(1, 1)
    assert reason(conduct, BEN, FIRST_RETRY) is None
    conduct = after(conduct, FIRST_RETRY, held_by=(BEN,))
    assert reason(conduct, BEN, 3 * FIRST_RETRY - 1) == MissedRounds(2, 2)
    assert reason(conduct, BEN, 3 * FIRST_RETRY) is None


def test_steady_volunteers_have_a_reserve_and_lose_it_with_a_miss() -> None:
    conduct = Conduct.first(SPEC)
    for round in range(STEADY):
        conduct = after(conduct, round, ADA)
    spent = conduct.after(RoundEnd(Round(STEADY), {ADA: 1}, 40.0, (BEN,), 40.0))
    assert reason(spent, CEM, STEADY + 1) == AllowanceSpent(0)
    assert reason(spent, ADA, STEADY + 1) is None
    missed = after(spent, STEADY + 1, held_by=(ADA,))
    assert reason(after(missed, STEADY + 2, ADA), ADA, STEADY + 3) == AllowanceSpent(1)


def test_misses_are_forgotten_after_enough_contributions() -> None:
    conduct = after(Conduct.first(SPEC), 0, held_by=(ADA,))
    for round in range(MOST_OWED):
        assert conduct.of(ADA).misses == 1
        conduct = after(conduct, round + 1, ADA)
    assert conduct.of(ADA).misses == 0


KEYS = st.integers(0, 40).map(lambda number: PublicKey(f"{number:064x}"))
ROUNDS = st.lists(
    st.tuples(st.frozensets(KEYS, max_size=6), st.frozensets(KEYS, max_size=6), st.floats(0.5, 30.0)),
    min_size=30,
    max_size=120,
)


@given(ROUNDS)
def test_however_keys_behave_rounds_wait_in_vain_for_a_share_of_the_time(
    rounds: list[tuple[frozenset[PublicKey], frozenset[PublicKey], float]],
) -> None:
    """Each round: who contributes, who else says that it trains, and how long the training takes."""
    conduct, trained, in_vain = Conduct.first(SPEC), 0.0, 0.0
    for number, (contributing, silent, seconds) in enumerate(rounds):
        waited, held_by = 0.0, [key for key in silent - contributing if reason(conduct, key, number) is None]
        while waited < LONGEST and any(reason(conduct, key, number, waited) is None for key in held_by):
            waited += 0.25
        tokens = dict.fromkeys(contributing, 100)
        conduct = conduct.after(RoundEnd(Round(number), tokens, seconds + waited, held_by, waited))
        trained, in_vain = trained + seconds, in_vain + waited
    assert in_vain <= SHARE * trained + 2 * LONGEST + 1


def test_tokens_count_as_far_as_the_measured_speed_allows() -> None:
    conduct = Conduct.first(SPEC)
    assert conduct.counted_tokens({ADA: 2**53 - 1}, 10.0) == 0
    conduct = conduct.after(RoundEnd(Round(0), {ADA: 100, BEN: 100}, 10.0, (), 0.0))
    assert conduct.counted_tokens({ADA: 30, BEN: 40, CEM: 2**53 - 1}, 10.0) == 70
    assert conduct.counted_tokens({ADA: 2**53 - 1}, 10.0) == 150
    assert conduct.counted_tokens({ADA: 5}, -1.0) == 0


def test_one_huge_contribution_does_not_make_a_speed_that_decides() -> None:
    speeds = {ADA: 100, BEN: 100, CEM: 2**40}
    conduct = Conduct.first(SPEC).after(RoundEnd(Round(0), speeds, 10.0, (), 0.0))
    assert conduct.counted_tokens({ADA: 0, BEN: 0, CEM: 2**53 - 1}, 10.0) == 1.5 * MAX_SPEED * 100


def test_volunteers_that_contributed_before_a_restart_are_steady() -> None:
    conduct = Conduct.first(SPEC).with_contributors([(Round(3), [ADA]), (Round(4), [BEN])])
    assert conduct.of(ADA).is_steady
    assert conduct.contributes(BEN, Round(5), 1)
    assert not conduct.contributes(CEM, Round(5), 1)
