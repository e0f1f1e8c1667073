"""The newest close says how many turns there are, for a restart and for other closers."""

from __future__ import annotations

from pathlib import Path

from barnraise.contract.log_entries import Close, parse_entry
from barnraise.core.ids import Millis
from coordinator.rounds.turns import turns_of_open_round
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
