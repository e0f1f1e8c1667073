"""A follower's checkpoints: copies of those that the coordinator wrote and signed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from barnraise.contract.charter import Charter
from barnraise.contract.manifest import MAX_MANIFEST_BYTES, Manifest, open_manifest
from barnraise.contract.tip import holders
from barnraise.core.errors import StateError, TrustError, Unreachable
from barnraise.core.ids import BlobHash, Millis
from barnraise.core.signed import Signed
from barnraise.network.swarm import Swarm
from barnraise.runtime.blob_store import BlobStore
from coordinator.store.run_store import RunStore
from coordinator.timing import TIMING, Timing

log = logging.getLogger("coordinator")


@dataclass
class CopiedCheckpoints:
    """Keeps what the newest head names."""

    store: RunStore
    swarm: Swarm
    clock: Callable[[], Millis]
    timing: Timing = TIMING

    async def run(self) -> None:
        """Copy each checkpoint that a head names, until cancelled. Raises DiskFull."""
        while True:
            for head in await self.swarm.heads():
                run = self.store.snapshot
                if head.checkpoint_round not in run.checkpoints and head.checkpoint_round <= run.tip.round:
                    await self._copy(BlobHash(head.checkpoint))
            await asyncio.sleep(self.timing.head)

    async def write_checkpoint(self) -> None:
        """The coordinator writes it."""

    async def update_archive(self) -> None:
        """A follower has no archive yet."""

    async def _copy(self, name: BlobHash) -> None:
        try:
            signed = await copy_checkpoint(self.store.charter, self.swarm, self.store.blobs, name)
        except (Unreachable, TrustError, StateError) as error:
            log.info("the newest checkpoint is not copied yet: %s", error.problem)
            return
        self.store.adopt_checkpoint(signed, self.clock())
        log.info("checkpoint of round %d copied", signed.value.round)


async def copy_checkpoint(
    charter: Charter, swarm: Swarm, blobs: BlobStore, name: BlobHash
) -> Signed[Manifest]:
    """Have a checkpoint's manifest and files in the store. Raises Unreachable, TrustError."""
    await swarm.fetch(name, MAX_MANIFEST_BYTES, holders(charter))
    wire = await asyncio.to_thread(blobs.get, name)
    signed = open_manifest(wire, run=charter.run, authority=charter.authority_key)
    for entry in signed.value.files:
        await swarm.fetch(BlobHash(entry.hash), entry.size, holders(charter))
    return signed
