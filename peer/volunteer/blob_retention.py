"""The contributions that a volunteer keeps for others: those who fold later, or join late."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from barnraise.contract.records import blob_name
from barnraise.core.ids import BlobHash, Round
from barnraise.fold.log import Link
from barnraise.runtime.blob_store import BlobStore

KEEP_BYTES = 2_000_000_000
"""Of contributions to folded rounds: beyond it the oldest go, but never the last round's."""


@dataclass
class BlobRetention:
    blobs: BlobStore
    _folded: dict[Round, tuple[dict[BlobHash, int], BlobHash]] = field(default_factory=dict)
    """By round: sizes by name of the contributions that its close lists, and the close."""
    _fetched: set[BlobHash] = field(default_factory=set)
    """Contributions to the open round of which no close is known yet."""

    def expect(self, name: BlobHash) -> None:
        """It was fetched before any close listed it."""
        self._fetched.add(name)

    def folded(self, link: Link, checkpoint: Round) -> None:
        """Keep what the close lists, as long as the newest checkpoint is older; drop what it left out."""
        listed = {blob_name(commit): commit.size for commit in link.commits}
        self._drop(self._fetched - set(listed))
        self._fetched = set()
        self._folded[Round(link.close.round)] = (listed, link.hash)
        while len(self._folded) > 1 and (min(self._folded) < checkpoint or self._size > KEEP_BYTES):
            names, close = self._folded.pop(min(self._folded))
            self._drop([*names, close])

    def forget(self) -> None:
        """Drop all: the log goes on elsewhere, from a checkpoint."""
        folded, self._folded = self._folded, {}
        for names, close in folded.values():
            self._drop([*names, close])

    def keeps(self, open_round: Round) -> Round:
        """The oldest round whose contributions are all here."""
        return min(self._folded, default=open_round)

    @property
    def _size(self) -> int:
        return sum(sum(names.values()) for names, _ in self._folded.values())

    def _drop(self, names: Iterable[BlobHash]) -> None:
        # What came late for one round may be on the shelf by its close, or by another round's.
        kept = {name for listed, _ in self._folded.values() for name in listed}
        for name in names:
            if name not in kept:
                self.blobs.remove(name)
