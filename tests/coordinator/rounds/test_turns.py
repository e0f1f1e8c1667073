"""The newest close says how many turns there are, for a restart and for other closers."""

from __future__ import annotations

from pathlib import Path

from barnraise.contract.log_entries import Close, parse_entry
from barnraise.contract.rotation import turns_for
from barnraise.core.ids import Millis
from coordinator.rounds.turns import Turnout, next_turns, turns_of_open_round
from tests.support import parts
from tests.support.coordinators import contribution, fold_round, opened_store


def test_the_turns_are_those_of_the_newest_close(tmp_path: Path) -> None:
    with opened_store(tmp_path / "run") as store:
        assert turns_of_open_round(store) == 1
        commit, blob = contribution(store, parts.ADA)
        store.blobs.put(blob)
        store.accept(commit, parts.NOW)
        link = store.close("all contributed", parts.NOW, turns=3)
        assert turns_of_open_round(store) == 3
        store.fold(link)
        store.resume(Millis(parts.NOW))
        assert turns_of_open_round(store) == 3, "a resume changes none"
        fold_round(store, parts.ADA)
        assert turns_of_open_round(store) == 1


def test_a_close_with_one_turn_is_written_as_before_there_were_any(tmp_path: Path) -> None:
    with opened_store(tmp_path / "run") as store:
        commit, blob = contribution(store, parts.ADA)
        store.blobs.put(blob)
        store.accept(commit, parts.NOW)
        for turns in (1, 2):
            close = store.candidate("all contributed", parts.NOW, turns)
            assert (b"turns" in close.payload) == (turns > 1)
            read = parse_entry(close.payload)
            assert isinstance(read, Close)
            assert (read, read.turns) == (close, turns)


LIMIT = 32


def test_heartbeats_alone_raise_no_turns() -> None:
    eight = Turnout(1, 8)
    assert next_turns(eight, [eight], live=208, limit=LIMIT) == 1


def test_a_round_without_a_place_for_everybody_raises_the_turns() -> None:
    full = Turnout(1, LIMIT, left_out=500)
    assert next_turns(full, [], live=600, limit=LIMIT) == turns_for(4 * LIMIT, LIMIT)
    assert next_turns(full, [], live=100, limit=LIMIT) == turns_for(100, LIMIT)


def test_newcomers_that_had_no_place_count_little() -> None:
    full = Turnout(1, LIMIT, newcomers=500)
    assert next_turns(full, [], live=600, limit=LIMIT) == turns_for(LIMIT + LIMIT // 2, LIMIT)


def test_a_crowd_gets_its_turns_within_a_few_rounds_and_keeps_them() -> None:
    crowd, turns, turnouts, seen = 1000, 1, list[Turnout](), list[int]()
    for _ in range(20):
        here = crowd // turns
        newest = Turnout(turns, min(here, LIMIT), max(0, here - LIMIT))
        turns = next_turns(newest, turnouts, live=crowd + 500, limit=LIMIT)
        turnouts.append(newest)
        seen.append(turns)
    assert all(abs(turns - turns_for(crowd, LIMIT)) <= 1 for turns in seen[3:])


def test_the_turns_fall_where_volunteers_leave() -> None:
    before = [Turnout(42, 24)] * 4
    assert next_turns(Turnout(42, 24), before, live=100, limit=LIMIT) == turns_for(100, LIMIT)
    fewer = [Turnout(42, 6)] * 4
    assert next_turns(Turnout(42, 6), fewer, live=1000, limit=LIMIT) == turns_for(252, LIMIT)
