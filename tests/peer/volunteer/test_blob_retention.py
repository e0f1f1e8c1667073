"""What a volunteer keeps for others: whole rounds, the newest ones, within bounds."""

from __future__ import annotations

from pathlib import Path

import pytest

import peer.volunteer.blob_retention as shelves
from barnraise.contract.records import Close
from barnraise.core.ids import BlobHash, Round
from barnraise.core.signed import sign
from barnraise.fold.log import Link
from barnraise.runtime.blob_store import BlobStore
from peer.volunteer.blob_retention import BlobRetention
from tests.support import parts

OPEN = Round(9)


class Shelved:
    """A shelf over a real store, and contributions of 100 bytes that are named by a letter."""

    def __init__(self, folder: Path) -> None:
        self.blobs = BlobStore(folder)
        self.shelf = BlobRetention(self.blobs)
        self.names: dict[str, BlobHash] = {}

    def fetch(self, letters: str) -> None:
        """They were fetched before any close listed them."""
        for letter in letters:
            self.shelf.expect(self.put(letter))

    def put(self, letter: str) -> BlobHash:
        self.names[letter] = name = self.blobs.put(letter.encode() * 100)
        return name

    def fold(self, round: int, letters: str, checkpoint: int = 0) -> None:
        """The close of `round` lists the contributions `letters`, and was folded."""
        commits = [
            sign(parts.ADA, parts.commit(parts.ADA, round=round, blob=self.put(letter))) for letter in letters
        ]
        close: Close = parts.close(commits, previous=parts.HASH_A).value
        link = Link(close, tuple(commit.value for commit in commits), self.put(str(round)))
        self.shelf.folded(link, Round(checkpoint))

    @property
    def here(self) -> str:
        """Letters of contributions and digits of closes that are in the store."""
        return "".join(sorted(letter for letter, name in self.names.items() if name in self.blobs))

    @property
    def keeps(self) -> int:
        return self.shelf.keeps(OPEN)


@pytest.fixture
def shelved(tmp_path: Path) -> Shelved:
    return Shelved(tmp_path)


def test_an_empty_shelf_serves_the_open_round_alone(shelved: Shelved) -> None:
    assert shelved.keeps == OPEN


def test_what_the_close_left_out_goes(shelved: Shelved) -> None:
    shelved.fetch("abc")
    assert shelved.here == "abc"
    shelved.fold(3, "ac")
    assert shelved.here == "3ac"
    assert shelved.keeps == 3


def test_rounds_since_the_newest_checkpoint_stay(shelved: Shelved) -> None:
    for round, letters in enumerate(("a", "b", "c", "d")):
        shelved.fold(round, letters)
    assert shelved.here == "0123abcd"
    assert shelved.keeps == 0


def test_a_checkpoint_makes_the_rounds_before_it_needless(shelved: Shelved) -> None:
    for round, letters in enumerate(("a", "b", "c", "d")):
        shelved.fold(round, letters, checkpoint=2 if round == 3 else 0)
    assert shelved.here == "23cd"
    assert shelved.keeps == 2


def test_the_last_round_stays_even_if_a_checkpoint_is_newer(shelved: Shelved) -> None:
    """A slower volunteer is just folding it."""
    shelved.fold(0, "a")
    shelved.fold(1, "b", checkpoint=5)
    assert shelved.here == "1b"


def test_there_is_an_end_to_the_room(shelved: Shelved, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelves, "KEEP_BYTES", 350)
    shelved.fold(0, "ab")
    shelved.fold(1, "c")
    assert shelved.keeps == 0
    shelved.fold(2, "d")
    assert shelved.here == "12cd"
    assert shelved.keeps == 1


def test_the_last_round_stays_however_large(shelved: Shelved, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelves, "KEEP_BYTES", 150)
    shelved.fold(0, "a")
    shelved.fold(1, "bcd")
    assert shelved.here == "1bcd"


def test_a_checkpoint_that_was_taken_empties_it(shelved: Shelved) -> None:
    shelved.fold(0, "a")
    shelved.fold(1, "b")
    shelved.fetch("c")
    shelved.shelf.forget()
    assert shelved.here == "c"
    assert shelved.keeps == OPEN
    shelved.fold(7, "d")
    assert shelved.here == "7d"
    assert shelved.keeps == 7


def test_what_comes_after_its_close_is_kept_with_its_round(shelved: Shelved) -> None:
    shelved.fold(0, "a")
    shelved.fetch("a")  # a fetch that began before the close ends after the fold
    shelved.fold(1, "b")
    assert shelved.here == "01ab"


def test_a_contribution_in_two_closes_stays_as_long_as_one_does(shelved: Shelved) -> None:
    shelved.fold(0, "ab")
    shelved.fold(1, "b")
    shelved.fold(2, "c", checkpoint=1)
    assert shelved.here == "12bc"
