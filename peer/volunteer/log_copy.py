"""A volunteer's copy of the run's log and charter, which it serves by their hashes.

A coordinator that lost its journal, and volunteers that cannot reach it, take the log from there. The blob of
what certifies the newest entry is named in each heartbeat (`Presence.log`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from barnraise.contract.charter import Charter
from barnraise.contract.double_signing import Certified
from barnraise.contract.keys_in_force import KeysInForce
from barnraise.contract.log_entries import (
    MAX_ENTRY_BYTES,
    Entry,
    NeedsNewer,
    common_fields,
    parse_entry,
    vote_on,
)
from barnraise.contract.records import Head, Presence
from barnraise.contract.tip import holders
from barnraise.core.errors import BarnraiseError, FileDamaged, MalformedRecord
from barnraise.core.ids import BlobHash, PublicKey, blob_hash
from barnraise.network.swarm import Swarm
from barnraise.runtime.blob_store import BlobStore
from barnraise.runtime.files import write_atomic
from peer.timing import TIMING, Timing
from peer.volunteer.samples import read_blob

log = logging.getLogger("peer")

NEWEST = "newest-entry.json"
"""The file that has what certifies the newest entry."""
KEEP_BYTES = 256 * 2**20
"""Of entries that are fetched back from a head: more than 20,000 rounds of ten contributions."""


@dataclass
class LogCopy:
    """The longest log of which this volunteer learned, as blobs."""

    charter: Charter
    swarm: Swarm
    blobs: BlobStore
    file: Path
    present: Callable[[], Iterable[Presence]]
    """The other volunteers, which have copies too."""
    timing: Timing = TIMING
    keys: KeysInForce | None = None
    """Of who has the log. They may change."""
    _newest: Certified | None = None
    _names: set[BlobHash] = field(default_factory=set)

    def load(self) -> None:
        """Find what an earlier process kept. Slow: reads each entry. Raises DiskFull."""
        self.blobs.put(self.charter.payload)
        try:
            newest = Certified.model_validate_json(self.file.read_bytes())
        except (OSError, ValidationError):
            return
        if newest.vote.run != self.charter.run:
            return
        name: str = newest.vote.entry
        while name != self.charter.digest and (before := self._previous(BlobHash(name))) is not None:
            self._names.add(BlobHash(name))
            name = before
        if BlobHash(newest.vote.entry) in self._names:
            self._newest = newest
            self.blobs.put(newest.payload)

    @property
    def name(self) -> BlobHash | None:
        """The blob of what certifies the newest entry; None while the log has none."""
        return None if self._newest is None else blob_hash(self._newest.payload)

    @property
    def names(self) -> set[BlobHash]:
        """Blobs that are kept."""
        newest = () if self.name is None else (self.name,)
        return {*self._names, BlobHash(self.charter.digest), *newest}

    async def follow(self, head: Callable[[], Head]) -> None:
        """Keep the copy up to the newest head until cancelled."""
        while True:
            try:
                await self.update(head())
                pause = self.timing.poll
            except BarnraiseError as error:
                log.debug("the log is not copied up to the newest head yet: %s", error.problem)
                pause = self.timing.retry
            await asyncio.sleep(pause)

    async def update(self, head: Head) -> None:
        """Fetch what a head's log has and the copy lacks. Raises Unreachable, TrustError, DiskFull."""
        if head.certificate is None or not self._is_longer(head):
            return
        newest = await self._read(BlobHash(head.entry))
        entry, size, new = parse_entry(newest), len(newest), [BlobHash(head.entry)]
        name = _previous_of(entry)
        while name != BlobHash(self.charter.digest) and name not in self._names and size < KEEP_BYTES:
            payload = await self._read(name)
            new.append(name)
            size, name = size + len(payload), _previous_of(parse_entry(payload))
        certified = Certified(vote=vote_on(entry, head.certificate.ballot), certificate=head.certificate)
        await asyncio.to_thread(self._keep, certified, new)

    def _is_longer(self, head: Head) -> bool:
        if self._newest is None:
            return True
        vote = self._newest.vote
        return (head.epoch, head.height - 1) > (vote.epoch, vote.height)

    def _keep(self, newest: Certified, new: Sequence[BlobHash]) -> None:
        before = self.name
        self.blobs.put(newest.payload)
        write_atomic(self.file, newest.payload)
        self._names.update(new)
        self._newest = newest
        if before is not None and before != self.name:
            self.blobs.remove(before)

    async def _read(self, name: BlobHash) -> bytes:
        """As `LogFollower` does: from the coordinator, the closers, or a volunteer."""
        position = None if self.keys is None else self.keys.at_work
        having = [
            *holders(self.charter, position),
            *(PublicKey(presence.owner) for presence in self.present()),
        ]
        return await read_blob(self.swarm, self.blobs, name, MAX_ENTRY_BYTES, *having)

    def _previous(self, name: BlobHash) -> BlobHash | None:
        try:
            return _previous_of(parse_entry(self.blobs.get(name)))
        except (FileNotFoundError, FileDamaged, MalformedRecord):
            return None


def _previous_of(entry: Entry | NeedsNewer) -> BlobHash:
    return BlobHash(common_fields(entry).previous)
