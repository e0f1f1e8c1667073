"""The standing of a key follows from the log alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from barnraise.contract.log_entries import (
    MAX_CHANGES,
    MAX_NOTE,
    MAX_VERDICT_BYTES,
    Change,
    Close,
    Rollback,
    StandingChange,
    parse_entry,
)
from barnraise.contract.standing import NONE, Standing, read_standings, restored, standings_of
from barnraise.contract.tip import Position, check_rollback, first_position
from barnraise.contract.trust_spec import TrustSpec
from barnraise.core.errors import MalformedRecord, StateError
from barnraise.core.ids import PublicKey, Round
from barnraise.core.signed import sign
from barnraise.fold.log import check_step
from tests.support import parts
from tests.support.parts import ADA, BEN, HASH_A, HASH_B

CHARTER = parts.charter(parts.run_spec(), parts.state())
START = first_position(CHARTER)
BANNED, PROBATION = Standing("banned"), Standing("probation")

keys = st.binary(min_size=32, max_size=32).map(lambda key: PublicKey(key.hex()))
standings = st.dictionaries(
    keys,
    st.builds(Standing, st.sampled_from(["probation", "trusted", "suspended", "banned"]), st.integers(0, 9)),
    max_size=5,
).map(standings_of)


def ban(position: Position, *banned: str) -> Position:
    changes = tuple(Change(key=key, level="banned", cause="order") for key in sorted(banned))
    step = parts.amendment(StandingChange, position, changes=changes)
    return position.after(check_step(position, step, CHARTER).entry)


def closed(position: Position, **other: object) -> Position:
    commit = sign(BEN, parts.commit(BEN, round=position.round))
    fields = {"height": position.height, "standings": position.standings.name, "void": position.void} | other
    link = parts.link([commit], previous=position.previous, **fields)
    return position.after(check_step(position, link, CHARTER).entry)


def rolled_back(position: Position, to: int) -> Position:
    step = parts.amendment(Rollback, position, to=to, state=HASH_B, note="a bad round")
    return position.after(check_step(position, step, CHARTER).entry)


def rounds(position: Position, count: int) -> Position:
    for _ in range(count):
        position = closed(position)
    return position


def test_keys_start_trusted_except_in_open_runs() -> None:
    vouched = TrustSpec(mode="open", vouched=(BEN.public,))
    assert NONE.of(ADA.public, TrustSpec()) == Standing("trusted")
    assert NONE.of(ADA.public, vouched) == PROBATION
    assert NONE.of(BEN.public, vouched) == Standing("trusted")


def test_a_change_counts_at_once_and_the_next_close_names_it() -> None:
    position = ban(START, ADA.public)
    assert position.standings.by_key == {ADA.public: BANNED}
    assert position.standings.banned == {ADA.public}
    assert position.round == START.round
    assert closed(position).standings == position.standings


@pytest.mark.parametrize("named", [None, HASH_A])
def test_a_close_that_names_other_standings_does_not_continue_the_log(named: str | None) -> None:
    with pytest.raises(StateError):
        closed(ban(START, ADA.public), standings=named)


def test_a_rollback_ends_the_round_and_voids_the_states_since() -> None:
    position = rolled_back(rounds(START, 4), to=2)
    assert (position.round, position.void, position.step) == (5, ((2, 4),), 2)
    assert [round for round in range(7) if position.is_void(round)] == [3, 4]
    assert closed(position).void == position.void


def test_a_rollback_to_an_earlier_state_covers_the_one_before() -> None:
    position = rolled_back(rounds(rolled_back(rounds(START, 4), to=3), 2), to=1)
    assert (position.void, position.step) == (((1, 7),), 1)


def test_a_rollback_to_a_later_state_leaves_the_one_before() -> None:
    position = rolled_back(rounds(rolled_back(rounds(START, 4), to=2), 3), to=6)
    assert (position.void, position.step) == (((2, 4), (6, 8)), 3)


def test_the_open_round_alone_can_be_given_up() -> None:
    position = rolled_back(rounds(START, 2), to=2)
    assert (position.round, position.void, position.step) == (3, ((2, 2),), 2)
    assert not any(position.is_void(round) for round in range(9))


def test_no_rollback_leads_to_a_void_state() -> None:
    position = rounds(rolled_back(rounds(START, 4), to=2), 1)
    with pytest.raises(MalformedRecord):
        rolled_back(position, to=3)
    with pytest.raises(ValidationError):
        parts.amendment(Rollback, position, to=position.round + 1, state=HASH_B, note="")
    check_rollback(position, Rollback.model_construct(to=2))


def test_a_rollback_may_ban() -> None:
    position = rounds(START, 2)
    change = Change(key=ADA.public, level="banned", cause="order", note="noise")
    step = parts.amendment(Rollback, position, to=1, state=HASH_B, note="noise", changes=(change,))
    after = position.after(check_step(position, step, CHARTER).entry)
    assert after.standings.bans(ADA.public)


def test_changes_name_each_key_once_in_order() -> None:
    first, second = sorted((ADA.public, BEN.public))
    for changed in ((second, first), (first, first), ()):
        changes = tuple(Change(key=key, level="banned", cause="order") for key in changed)
        with pytest.raises(ValidationError):
            parts.amendment(StandingChange, START, changes=changes)


def test_the_largest_entry_can_be_read() -> None:
    largest = Change(
        key="f" * 64,
        level="suspended",
        work=2**40 - 1,
        cause="audit",
        verdict="A" * (4 * MAX_VERDICT_BYTES // 3),
        note="\x01" * MAX_NOTE,  # six bytes each, as JSON has it
    )
    keys = sorted(f"{number:064x}" for number in range(MAX_CHANGES))
    changes = tuple(largest.model_copy(update={"key": key}) for key in keys)
    entry = parts.amendment(StandingChange, START, changes=changes).entry
    assert parse_entry(entry.payload) == entry


def test_a_close_weighs_each_commit_and_something() -> None:
    commits = [sign(owner, parts.commit(owner)) for owner in (ADA, BEN)]
    for weights in ((1,), (1, 1, 1), (0, 0), (-1, 2)):
        with pytest.raises(ValidationError):
            parts.close(commits, previous=HASH_A, weights=weights)
    close = parts.close(commits, previous=HASH_A, weights=(0, 3))
    assert isinstance(parsed := parse_entry(close.payload), Close)
    assert parsed.weights == (0, 3)


@given(standings)
def test_a_list_is_read_as_it_was_written(made: object) -> None:
    assert isinstance(made, type(NONE))
    assert read_standings(made.payload, made.name) == made
    assert restored(made.saved) == made


@pytest.mark.parametrize("spoil", [lambda data: data + b" ", lambda data: data[:-1], lambda data: b"\xff"])
def test_other_bytes_are_no_list(spoil: object) -> None:
    made = standings_of({PublicKey(ADA.public): BANNED})
    assert callable(spoil)
    with pytest.raises(MalformedRecord):
        read_standings(spoil(made.payload), made.name)


def test_the_rounds_of_a_position_are_numbers() -> None:
    assert rolled_back(rounds(START, 1), to=0).void == ((Round(0), Round(1)),)
