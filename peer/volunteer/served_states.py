"""The run's states that a volunteer serves: those of its saved work, each by its hash.

A state is served from the file in which it is saved, as the blobs that `barnraise.contract.state_index`
describes. A coordinator that lost its checkpoints, and a volunteer that joins while the coordinator is away,
take a state from there: the newest close names the one before it, whose file is kept for that.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from barnraise.contract.state_index import index_of
from barnraise.core.errors import FileDamaged
from barnraise.core.ids import BlobHash, StateHash, blob_hash, short
from barnraise.models.tensor_files import stored_tensors
from barnraise.runtime.blob_store import BlobStore, FilePart

log = logging.getLogger("peer")


@dataclass(frozen=True)
class StateFile:
    """A saved state."""

    step: int
    """As of `TrainState`."""
    path: Path


@dataclass
class ServedStates:
    """What the blob store lends. Synchronous; slow where a state is new: its file is hashed."""

    blobs: BlobStore
    _parts: dict[StateHash, dict[BlobHash, FilePart]] = field(default_factory=dict)

    def serve(self, files: Mapping[StateHash, StateFile]) -> None:
        """Serve these states, and no other ones. Raises DiskFull."""
        for state in self._parts.keys() - files.keys():
            del self._parts[state]
            self.blobs.remove(BlobHash(state))
        for state, file in files.items():
            known = self._parts.get(state)
            if known is None or any(part.path != file.path for part in known.values()):
                self._add(state, file)
        self.blobs.lend({name: part for parts in self._parts.values() for name, part in parts.items()})

    @property
    def names(self) -> set[BlobHash]:
        """The indexes of the states, which are blobs of their own."""
        return {BlobHash(state) for state in self._parts}

    def _add(self, state: StateHash, file: StateFile) -> None:
        try:
            tensors = stored_tensors(file.path)
        except FileDamaged as error:
            log.warning("the state of step %d is not served: %s", file.step, error.problem)
            return
        index = index_of(file.step, ((each.name, each.shape, each.digest) for each in tensors))
        if blob_hash(index) != BlobHash(state):
            log.warning("the saved state of step %d is not %s: it is not served", file.step, short(state))
            return
        self.blobs.put(index)
        self._parts[state] = {each.digest: each.part for each in tensors}
