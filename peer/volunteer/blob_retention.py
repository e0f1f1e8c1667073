"""Which contributions a volunteer keeps for peers that fold later or join late."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from barnraise.contract.charter import Charter
from barnraise.contract.double_signing import Certified
from barnraise.contract.records import blob_name
from barnraise.core.errors import FileDamaged, TrustError
from barnraise.core.ids import BlobHash, Round
from barnraise.fold.log import Link, read_step
from barnraise.runtime.blob_store import BlobStore

KEEP_BYTES = 2_000_000_000
"""Of contributions to folded rounds: above it the oldest rounds are dropped, but never the last one."""


@dataclass
class BlobRetention:
    """Drops the blobs of contributions that no peer needs any more."""

    blobs: BlobStore
    keep_bytes: int = KEEP_BYTES
    _folded: dict[Round, dict[BlobHash, int]] = field(default_factory=dict)
    """By round: sizes by name of the contributions that its close lists."""
    _fetched: set[BlobHash] = field(default_factory=set)
    """Contributions to the open round, whose close is not known."""

    def expect(self, name: BlobHash) -> None:
        """`name` was fetched before any close listed it."""
        self._fetched.add(name)

    def folded(self, link: Link, checkpoint: Round) -> None:
        """Keep what the close lists while the newest checkpoint is older; drop what it does not list."""
        listed = {blob_name(commit): commit.size for commit in link.commits}
        self._drop(self._fetched - set(listed))
        self._fetched = set()
        self._folded[Round(link.close.round)] = listed
        while len(self._folded) > 1 and (min(self._folded) < checkpoint or self._size > self.keep_bytes):
            self._drop(self._folded.pop(min(self._folded)))

    def forget(self) -> None:
        """Drop everything: the volunteer continues from a checkpoint."""
        folded, self._folded = self._folded, {}
        for names in folded.values():
            self._drop(names)

    @property
    def names(self) -> set[BlobHash]:
        """The contributions to folded rounds that are kept."""
        return {name for listed in self._folded.values() for name in listed}

    def keeps(self, open_round: Round) -> Round:
        """The oldest round whose contributions are all here."""
        return min(self._folded, default=open_round)

    @property
    def _size(self) -> int:
        return sum(sum(names.values()) for names in self._folded.values())

    def _drop(self, names: Iterable[BlobHash]) -> None:
        # A blob that arrived late for one round may be listed by its close, or by another round's.
        kept = self.names
        for name in names:
            if name not in kept:
                self.blobs.remove(name)


def newest_close(newest: Certified | None, charter: Charter, blobs: BlobStore) -> Link | None:
    """The close before a saved state, where all of its contributions are still here; else None.

    With the state before that close (`peer.volunteer.served_states`), they are what a coordinator without
    checkpoints needs. newest: what certified the newest entry that was passed.
    """
    if newest is None:
        return None
    try:
        step = read_step(blobs.get(BlobHash(newest.vote.entry)), newest.certificate, charter)
    except (FileNotFoundError, FileDamaged, TrustError):
        return None
    is_complete = isinstance(step, Link) and all(blob_name(commit) in blobs for commit in step.commits)
    return step if isinstance(step, Link) and is_complete else None
