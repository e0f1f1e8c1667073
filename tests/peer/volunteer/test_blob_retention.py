"""Which contributions a volunteer keeps for peers: the newest rounds, each whole, within a limit."""

from __future__ import annotations

from pathlib import Path

import pytest

from barnraise.core.ids import BlobHash, Round
from barnraise.core.signed import sign
from barnraise.fold.log import certified
from barnraise.runtime.blob_store import BlobStore
from peer.volunteer.blob_retention import BlobRetention, newest_close
from tests.support import parts

OPEN = Round(9)


class Kept:
    """A retention over a real blob store, and contributions of 100 bytes named by a letter."""

    def __init__(self, folder: Path) -> None:
        self.blobs = BlobStore(folder)
        self.retention = BlobRetention(self.blobs)
        self.names: dict[str, BlobHash] = {}

    def fetch(self, letters: str) -> None:
        """Fetch blobs before any close lists them."""
        for letter in letters:
            self.retention.expect(self.put(letter))

    def put(self, letter: str) -> BlobHash:
        self.names[letter] = name = self.blobs.put(letter.encode() * 100)
        return name

    def fold(self, round: int, letters: str, checkpoint: int = 0) -> None:
        """The close of `round` lists the contributions `letters`, and was folded."""
        commits = [
            sign(parts.ADA, parts.commit(parts.ADA, round=round, blob=self.put(letter))) for letter in letters
        ]
        link = parts.link(commits, previous=parts.HASH_A)
        self.retention.folded(link, Round(checkpoint))

    @property
    def here(self) -> str:
        """Letters of contributions that are in the store. Closes stay: `LogCopy` keeps the log."""
        return "".join(sorted(letter for letter, name in self.names.items() if name in self.blobs))

    @property
    def keeps(self) -> int:
        return self.retention.keeps(OPEN)


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


def test_without_folded_rounds_only_the_open_round_is_served(kept: Kept) -> None:
    assert kept.keeps == OPEN


def test_what_the_close_does_not_list_is_dropped(kept: Kept) -> None:
    kept.fetch("abc")
    assert kept.here == "abc"
    kept.fold(3, "ac")
    assert kept.here == "ac"
    assert kept.keeps == 3


def test_rounds_since_the_newest_checkpoint_stay(kept: Kept) -> None:
    for round, letters in enumerate(("a", "b", "c", "d")):
        kept.fold(round, letters)
    assert kept.here == "abcd"
    assert kept.keeps == 0


def test_rounds_before_a_checkpoint_are_dropped(kept: Kept) -> None:
    for round, letters in enumerate(("a", "b", "c", "d")):
        kept.fold(round, letters, checkpoint=2 if round == 3 else 0)
    assert kept.here == "cd"
    assert kept.keeps == 2


def test_the_last_round_stays_even_if_a_checkpoint_is_newer(kept: Kept) -> None:
    """A slower volunteer may be folding it."""
    kept.fold(0, "a")
    kept.fold(1, "b", checkpoint=5)
    assert kept.here == "b"


def test_the_oldest_rounds_are_dropped_above_the_limit(kept: Kept) -> None:
    kept.retention.keep_bytes = 350
    kept.fold(0, "ab")
    kept.fold(1, "c")
    assert kept.keeps == 0
    kept.fold(2, "d")
    assert kept.here == "cd"
    assert kept.keeps == 1


def test_the_last_round_stays_however_large(kept: Kept) -> None:
    kept.retention.keep_bytes = 150
    kept.fold(0, "a")
    kept.fold(1, "bcd")
    assert kept.here == "bcd"


def test_forget_drops_all_folded_rounds(kept: Kept) -> None:
    kept.fold(0, "a")
    kept.fold(1, "b")
    kept.fetch("c")
    kept.retention.forget()
    assert kept.here == "c"
    assert kept.keeps == OPEN
    kept.fold(7, "d")
    assert kept.here == "d"
    assert kept.keeps == 7


def test_a_blob_that_arrives_after_its_close_is_kept_with_its_round(kept: Kept) -> None:
    kept.fold(0, "a")
    kept.fetch("a")  # a fetch that began before the close ends after the fold
    kept.fold(1, "b")
    assert kept.here == "ab"


def test_a_contribution_in_two_closes_stays_as_long_as_either_round(kept: Kept) -> None:
    kept.fold(0, "ab")
    kept.fold(1, "b")
    kept.fold(2, "c", checkpoint=1)
    assert kept.here == "bc"


def test_a_restart_finds_the_newest_close_while_its_contributions_are_here(kept: Kept) -> None:
    name = kept.put("a")
    link = parts.link([sign(parts.ADA, parts.commit(parts.ADA, round=3, blob=name))], previous=parts.HASH_A)
    charter, newest = parts.charter(parts.run_spec(), parts.state()), certified(link)
    assert newest_close(newest, charter, kept.blobs) is None, "the entry is not here"
    kept.blobs.put(link.entry.payload)
    assert newest_close(newest, charter, kept.blobs) == link
    kept.retention.folded(link, Round(7))
    assert kept.retention.names == {name}
    assert kept.keeps == 3
    kept.blobs.remove(name)
    assert newest_close(newest, charter, kept.blobs) is None
    assert newest_close(None, charter, kept.blobs) is None
