"""A follower's checkpoints: copies of those of the coordinator, and its own ones while that is away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from barnraise.contract.charter import Charter
from barnraise.contract.manifest import MAX_MANIFEST_BYTES, Manifest, check_interim, open_manifest
from barnraise.contract.records import Evaluation, Head
from barnraise.contract.run_keys import Signers
from barnraise.contract.tip import Position, first_closers, holders
from barnraise.core.errors import MalformedRecord, StateError, TrustError, Unreachable
from barnraise.core.ids import BlobHash, Millis, blob_hash, short
from barnraise.core.recent import Recent
from barnraise.core.signed import Signed
from barnraise.network.swarm import Swarm
from barnraise.runtime.blob_store import BlobStore
from barnraise.runtime.peer_faults import BY_DATA
from coordinator.checkpoints.archive_writer import ArchiveContent, ArchiveWriter
from coordinator.checkpoints.interim import write_interim
from coordinator.reasons.checkpoints import EvaluationProgress, EvaluationStatus
from coordinator.run_folder import ARCHIVE
from coordinator.store.named_blobs import named_by_run
from coordinator.store.run_store import RunStore
from coordinator.timing import TIMING, Timing

log = logging.getLogger("coordinator")

REMEMBERED = 4096
"""Checkpoints that were refused."""
MOST_FILES = 4
"""Bytes of a checkpoint by a closer alone, in those of the largest one that is known."""


@dataclass
class CopiedCheckpoints:
    """Keeps what the newest head names, and the archive of the run."""

    store: RunStore
    swarm: Swarm
    clock: Callable[[], Millis]
    archive: ArchiveWriter
    timing: Timing = TIMING
    _refused: Recent[BlobHash] = field(default_factory=lambda: Recent(REMEMBERED))
    """Manifests that a closer alone named, and that are none: they are fetched once."""
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while the set of files that the store keeps changes, and while they are linked."""

    @classmethod
    def of(
        cls, store: RunStore, swarm: Swarm, clock: Callable[[], Millis], timing: Timing = TIMING
    ) -> CopiedCheckpoints:
        """Those of `store`, with the archive in its folder."""
        return cls(
            store, swarm, clock, ArchiveWriter(store.charter, store.folder / ARCHIVE, store.blobs), timing
        )

    async def run(self) -> None:
        """Copy each checkpoint that a head names, until cancelled. Raises DiskFull, StateError."""
        await self.update_archive()
        while True:
            for head in await self.swarm.heads():
                if self._is_new(head):
                    await self._copy(BlobHash(head.checkpoint))
            await asyncio.sleep(self.timing.head)

    async def write_checkpoint(self, *, leads: bool = True) -> None:
        """Write an interim checkpoint where this closer leads: the coordinator is away. Raises DiskFull."""
        run = self.store.snapshot
        if not leads or self.store.authority.public not in run.position.closers:
            return
        async with self._writing:
            signed = await asyncio.to_thread(write_interim, self.store)
            await asyncio.to_thread(self.store.adopt_checkpoint, signed, self.clock())
        log.info("checkpoint of round %d written while the coordinator is away", signed.value.round)

    async def update_archive(self) -> None:
        """Bring the archive up to the run store. Raises DiskFull, StateError."""
        async with self._writing:
            content = ArchiveContent.of(self.store.snapshot, ())
            await asyncio.to_thread(self.archive.write, content)

    def record_evaluation(self, evaluation: Signed[Evaluation]) -> EvaluationProgress:
        """Raises Unreachable: the coordinator collects them."""
        raise Unreachable(
            "evaluations are collected by the run's coordinator, and this is a follower",
            fix="Send it again when the coordinator is back.",
        )

    def pending_evaluation(self) -> EvaluationStatus | None:
        """None: the coordinator knows."""
        return None

    def _is_new(self, head: Head) -> bool:
        run = self.store.snapshot
        known = run.checkpoints.get(head.checkpoint_round)
        if (
            BlobHash(head.checkpoint) in self._refused
            or head.checkpoint_round > run.tip.round
            or head.checkpoint_round < run.newest_checkpoint.value.round
        ):
            return False
        return known is None or blob_hash(known.wire) != head.checkpoint

    async def _copy(self, name: BlobHash) -> None:
        store, position = self.store, self.store.snapshot.position
        try:
            known = store.snapshot.checkpoints.values()
            most = MOST_FILES * max((signed.value.size for signed in known), default=2**42)
            signed = await copy_checkpoint(store.charter, self.swarm, store.blobs, name, position, most)
        except Unreachable as error:
            log.info("the newest checkpoint is not copied yet: %s", error.problem)
            return
        except (TrustError, StateError, *BY_DATA) as error:
            self._refused.add(name)
            log.warning("the checkpoint %s is not copied: %s", short(name), error)
            if name not in named_by_run(store.snapshot, store.blobs):
                store.blobs.remove(name)
            return
        final = signed.signer in store.snapshot.signers.run_keys
        if not final and signed.value.round in store.snapshot.checkpoints:
            return  # one of another closer, with the same state
        async with self._writing:
            await asyncio.to_thread(store.adopt_checkpoint, signed, self.clock(), shown=final)
        log.info("checkpoint of round %d copied", signed.value.round)
        await self.update_archive()


async def copy_checkpoint(
    charter: Charter, swarm: Swarm, blobs: BlobStore, name: BlobHash, position: Position, most: int = 2**44
) -> Signed[Manifest]:
    """Have a checkpoint's manifest and files in the store. position: the newest one that is known.

    most: bytes of one that a closer signed.

    Raises Unreachable, TrustError.
    """
    having = holders(charter, position)
    await swarm.fetch(name, MAX_MANIFEST_BYTES, having)
    wire = await asyncio.to_thread(blobs.get, name)
    closers = first_closers(charter)  # a restart knows no others yet when it opens the manifest
    signers = Signers(charter.authority_key, position.successors, closers=frozenset(closers))
    signed = open_manifest(wire, run=charter.run, signers=signers)
    check_interim(signed, signers, position)
    if signed.signer not in signers.run_keys and signed.value.size > most:
        raise MalformedRecord(
            f"a checkpoint of {signed.value.size} bytes by {short(signed.signer)} alone",
            fix="It is not copied. The coordinator's may have any size.",
        )
    for entry in signed.value.files:
        await swarm.fetch(BlobHash(entry.hash), entry.size, having)
    return signed
