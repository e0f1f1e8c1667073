"""What a closer promised and voted is on the disk, and a closer without it does not start."""

from __future__ import annotations

from pathlib import Path

import pytest

from barnraise.consensus.state import Record
from barnraise.consensus.statements import Place, Voted
from barnraise.consensus.vote_store import VoteStore, open_closer
from barnraise.core.errors import StateError
from barnraise.core.identity import Identity
from barnraise.core.ids import Round
from tests.support.closers import PLACE, RUN, value

VOTED = Record(PLACE, 4, Voted(ballot=4, entry=value(1).entry, kind="close"))
EARLIER = Place(RUN, 0, PLACE.height - 1, Round(5))
LATER = Place(RUN, 0, PLACE.height + 1, Round(7))
NEXT_EPOCH = Place(RUN, 1, 2, Round(2))


def test_a_record_outlives_a_restart(tmp_path: Path) -> None:
    key, votes = tmp_path / "closer.key", tmp_path / "votes.json"
    identity, store = open_closer(key, votes)
    assert store.record(PLACE) == Record(PLACE)
    store.flush(VOTED)
    again, store = open_closer(key, votes)
    assert again.public == identity.public
    assert store.record(PLACE) == VOTED
    assert store.record(LATER) == Record(LATER)
    assert store.record(NEXT_EPOCH) == Record(NEXT_EPOCH)
    assert store.record(EARLIER) is None, "it has promised further on"


def test_a_closer_takes_no_part_in_an_epoch_before_its_first(tmp_path: Path) -> None:
    store = VoteStore.begin(tmp_path / "votes.json", Identity.generate().public, epoch=1)
    assert store.record(PLACE) is None
    assert store.record(NEXT_EPOCH) == Record(NEXT_EPOCH)


@pytest.mark.parametrize("damage", [b"", b"{}", None])
def test_a_closer_without_its_votes_does_not_start(tmp_path: Path, damage: bytes | None) -> None:
    key, votes = tmp_path / "closer.key", tmp_path / "votes.json"
    open_closer(key, votes)
    if damage is None:
        votes.unlink()
    else:
        votes.write_bytes(damage)
    with pytest.raises(StateError) as error:
        open_closer(key, votes)
    assert str(key) in error.value.fix
    key.unlink()
    open_closer(key, votes)


def test_the_votes_of_another_key_are_refused(tmp_path: Path) -> None:
    key, votes = tmp_path / "closer.key", tmp_path / "votes.json"
    open_closer(key, votes)
    VoteStore.begin(votes, Identity.generate().public)
    with pytest.raises(StateError, match="another key"):
        open_closer(key, votes)


def test_a_start_that_was_killed_before_the_key_was_written_begins_again(tmp_path: Path) -> None:
    VoteStore.begin(tmp_path / "votes.json", Identity.generate().public)
    open_closer(tmp_path / "closer.key", tmp_path / "votes.json")
