"""How often a key may do something, and what a key may use."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from barnraise.contract.keys_in_force import KeysInForce
from barnraise.contract.standing import Standing, standings_of
from barnraise.contract.trust_spec import TrustSpec
from barnraise.core.ids import PublicKey
from barnraise.network import key_rates
from barnraise.network.key_access import MAX_KEYS, Access, KeyAccess
from barnraise.network.key_rates import KeyRates, Rate, Verdict
from tests.support import parts
from tests.support.transfers import key

ADA = key("ada")
EACH = {Access.STRANGER: Rate(1, 5), Access.ADMITTED: Rate(10, 20)}


def rates() -> KeyRates:
    return KeyRates(EACH, {Access.STRANGER: Rate(2, 10), Access.ADMITTED: Rate(100, 1000)})


def counted(found: list[Verdict]) -> tuple[int, int, int]:
    return found.count(Verdict.ALLOWED), found.count(Verdict.REFUSED), found.count(Verdict.FLOODS)


def test_a_key_has_a_burst_and_then_its_rate() -> None:
    limits = rates()
    assert counted([limits.take(ADA, Access.ADMITTED, 0.0) for _ in range(25)]) == (20, 5, 0)
    assert limits.take(ADA, Access.ADMITTED, 0.4) is Verdict.REFUSED, "what was refused counts"
    assert limits.take(ADA, Access.ADMITTED, 1.0) is Verdict.ALLOWED


def test_a_key_that_was_admitted_has_the_rate_of_admitted_keys_from_then_on() -> None:
    """Every volunteer's first record makes it known. With a stranger's rate it would lose later ones."""
    limits = rates()
    assert limits.take(ADA, Access.STRANGER, 0.0) is Verdict.ALLOWED
    found = [limits.take(ADA, Access.ADMITTED, second / 10) for second in range(1000)]
    assert counted(found) == (1000, 0, 0)


def test_a_key_that_goes_on_floods() -> None:
    limits = rates()
    assert counted([limits.take(ADA, Access.STRANGER, 0.0) for _ in range(15)]) == (5, 4, 6)
    assert limits.take(ADA, Access.STRANGER, 100.0) is Verdict.ALLOWED


def test_strangers_share_a_rate_and_others_do_not_feel_it() -> None:
    limits = rates()
    strangers = [limits.take(key(str(number)), Access.STRANGER, 0.0) for number in range(100)]
    assert counted(strangers) == (10, 90, 0), "a key without an admission is free"
    assert limits.take(ADA, Access.ADMITTED, 0.0) is Verdict.ALLOWED
    assert counted([limits.take(key("closer"), Access.RUN, 0.0) for _ in range(999)]) == (999, 0, 0)


def test_keys_on_probation_share_a_rate_that_trusted_ones_do_not_feel() -> None:
    limits = KeyRates(EACH | {Access.TRUSTED: Rate(10, 20)}, {Access.ADMITTED: Rate(2, 10)})
    admitted = [limits.take(key(str(number)), Access.ADMITTED, 0.0) for number in range(100)]
    assert counted(admitted) == (10, 90, 0)
    trusted = [limits.take(key(f"trusted {number}"), Access.TRUSTED, 0.0) for number in range(100)]
    assert counted(trusted) == (100, 0, 0)


def test_a_flood_of_new_keys_leaves_other_strangers_their_share() -> None:
    limits, draw, seconds = rates(), random.Random(0), 400
    flood = [(draw.uniform(0, seconds), f"new {number}") for number in range(10 * seconds)]
    joiner = [(draw.uniform(0, seconds), "joiner") for _ in range(seconds // 2)]
    allowed = [
        name
        for at, name in sorted(flood + joiner)
        if limits.take(key(name), Access.STRANGER, at) is Verdict.ALLOWED
    ]
    assert allowed.count("joiner") > 20
    assert len(allowed) <= 10 + 2 * seconds


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 5), st.floats(0, 4)), max_size=200))
def test_no_key_gets_more_than_its_rate(acts: list[tuple[int, float, float]]) -> None:
    limits, now = rates(), 0.0
    allowed = dict.fromkeys(range(4), 0.0)
    for who, pause, amount in acts:
        now += pause
        if limits.take(key(str(who)), Access.ADMITTED, now, amount) is Verdict.ALLOWED:
            allowed[who] += amount
    rate = EACH[Access.ADMITTED]
    assert all(total <= rate.burst + rate.per_second * now + 1e-6 for total in allowed.values())


def test_buckets_are_bounded() -> None:
    limits = rates()
    for number in range(key_rates.MAX_BUCKETS + 100):
        limits.take(PublicKey(str(number)), Access.STRANGER, 0.0)
    assert len(limits._buckets) == key_rates.MAX_BUCKETS


def test_the_access_of_keys() -> None:
    banned = {key("bad"), key("closer")}
    access = KeyAccess(parts.keys(key("closer")), banned.__contains__)
    access.admit(ADA)
    access.admit(key("bad"))
    found = {name: access.of(key(name)) for name in ("ada", "bad", "closer", "other")}
    assert found == {
        "ada": Access.ADMITTED,
        "bad": Access.BANNED,
        "closer": Access.RUN,
        "other": Access.STRANGER,
    }
    assert access.of(parts.AUTHORITY.public) is Access.RUN


def test_trusted_keys_of_an_open_run_are_those_that_the_spec_or_the_log_names() -> None:
    vouched, named, suspended, new = (key(name) for name in ("vouched", "named", "suspended", "new"))
    keys = parts.keys()
    trust = TrustSpec(mode="open", vouched=(vouched,))
    opened = KeysInForce(keys.first, keys.position, trust)
    named_ones = {named: Standing("trusted"), suspended: Standing("suspended")}
    opened.follow(replace(keys.position, standings=standings_of(named_ones)))
    access = KeyAccess(opened)
    before = [access.of(each) for each in (vouched, named, suspended, new)]
    assert before == [Access.TRUSTED, Access.TRUSTED, Access.STRANGER, Access.STRANGER]
    for each in (vouched, named, suspended, new):
        access.admit(each)
    after = [access.of(each) for each in (vouched, named, suspended, new)]
    assert after == [Access.TRUSTED, Access.TRUSTED, Access.ADMITTED, Access.ADMITTED]


def test_admitted_keys_of_a_run_by_invitation_are_trusted() -> None:
    keys = parts.keys()
    access = KeyAccess(KeysInForce(keys.first, keys.position, TrustSpec()))
    assert access.of(ADA) is Access.STRANGER
    access.admit(ADA)
    assert access.of(ADA) is Access.TRUSTED


def test_admitted_keys_that_are_remembered_are_bounded() -> None:
    access = KeyAccess(parts.keys())
    access.admit(ADA)
    for number in range(MAX_KEYS):
        access.admit(PublicKey(f"{number:064x}"))
    assert access.of(ADA) is Access.STRANGER
    assert access.of(PublicKey(f"{MAX_KEYS - 1:064x}")) is Access.ADMITTED
