"""Shares of a limited number of places, and rates."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from barnraise.core.places import SHARED, Places
from barnraise.core.rates import Allowance, Rates


def fill(places: Places, group: str, *, is_known: bool = False) -> int:
    taken = 0
    while places.enter(group, is_known=is_known):
        taken += 1
    return taken


def test_one_group_takes_half_and_leaves_the_others_room() -> None:
    places = Places(100)
    assert fill(places, "flood") == 50
    assert fill(places, "another") == 25
    assert places.enter("newcomer")


@given(st.lists(st.sampled_from([f"group {n}" for n in range(30)]), max_size=3000))
def test_no_sequence_of_few_groups_takes_all_places(asking: list[str]) -> None:
    places = Places(512, reserved=64)
    for group in asking:
        places.enter(group)
    assert len(places) < 512 - 64
    assert places.enter("newcomer")


def test_reserved_places_are_for_known_groups() -> None:
    places = Places(10, reserved=4)
    assert sum(places.enter(f"stranger {n}") for n in range(20)) == 6
    assert not places.enter("another stranger")
    assert places.enter("volunteer", is_known=True)


def test_clients_of_this_machine_share_all_places() -> None:
    places = Places(10)
    assert fill(places, SHARED) == 10
    places.leave(SHARED)
    assert len(places) == 9
    assert places.enter(SHARED)


def test_a_place_that_is_left_is_free() -> None:
    places = Places(2)
    assert fill(places, "one") == 1
    places.leave("one")
    assert len(places) == 0
    assert places.enter("one")


def test_a_name_has_its_burst_and_then_its_rate() -> None:
    rates = Rates(Allowance(burst=3, per_second=0.5))
    assert [rates.take("a", 0.0) for _ in range(4)] == [0.0, 0.0, 0.0, 2.0]
    assert rates.take("b", 0.0) == 0.0, "each name has its own"
    assert rates.take("a", 1.0) == 1.0, "a refused use costs nothing"
    assert rates.take("a", 2.0) == 0.0
    assert [rates.take("a", 1000.0) for _ in range(4)] == [0.0, 0.0, 0.0, 2.0]


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.floats(0, 5)), max_size=200))
def test_memory_is_bounded_and_the_rate_is_kept(uses: list[tuple[str, float]]) -> None:
    rates, now, allowed = Rates(Allowance(burst=5, per_second=1.0), most=6), 0.0, dict.fromkeys("abcdef", 0)
    for name, pause in uses:
        now += pause
        allowed[name] += rates.take(name, now) == 0.0
    assert all(count <= 5 + now + 1e-6 for count in allowed.values())
    flooded = Rates(Allowance(burst=5, per_second=1.0), most=6)
    for n in range(100):
        flooded.take(str(n), 0.0)
    assert len(flooded._buckets) == 6
