"""Fetches proofs of double signing that heartbeats name: one volunteer that saw both histories is enough."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random

from barnraise.contract.charter import Charter
from barnraise.contract.double_signing import MAX_PROOF_BYTES, DoubleSigned, open_proof_of_any
from barnraise.contract.records import Presence
from barnraise.contract.run_keys import Successors
from barnraise.contract.tip import certifiers
from barnraise.core.errors import BarnraiseError, TrustError
from barnraise.core.ids import BlobHash, PublicKey
from barnraise.core.recent import Recent
from barnraise.network.swarm import Swarm
from barnraise.runtime.blob_store import BlobStore
from barnraise.runtime.peer_faults import BY_DATA

log = logging.getLogger("barnraise.swarm")

AT_ONCE = 4
"""Volunteers that are asked in parallel."""
REMEMBERED = 4096
"""Proofs that were checked, and volunteers that named something else."""


@dataclass
class ProofSearch:
    """Of one program, which serves what it keeps."""

    charter: Charter
    swarm: Swarm
    blobs: BlobStore
    """The store of `swarm`."""
    successors: Callable[[], Successors]
    """Of the charter's run key, which may have signed two histories as well."""
    keep: Callable[[DoubleSigned], object]
    """Gets each proof that is valid and new, in a thread."""
    random: Random = field(default_factory=Random)
    _known: Recent[str] = field(default_factory=lambda: Recent(REMEMBERED))
    """Names of proofs that were checked."""
    _refused: Recent[str] = field(default_factory=lambda: Recent(REMEMBERED))
    """Volunteers that named something else: they are not asked again."""
    _asking: set[asyncio.Task[None]] = field(default_factory=set)

    def look(self, present: Iterable[Presence]) -> None:
        """Begin to fetch what is new, at random: volunteers that do not answer do not exclude others."""
        naming = [presence for presence in present if presence.proof is not None]
        for presence in self.random.sample(naming, len(naming)):
            name, owner = presence.proof, presence.owner
            if name is None or name in self._known or owner in self._refused or len(self._asking) >= AT_ONCE:
                continue
            self._known.add(name)
            task = asyncio.create_task(self._fetch(BlobHash(name), PublicKey(owner)))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)

    async def finish(self) -> None:
        """Wait for what is under way."""
        await asyncio.gather(*self._asking)

    def cancel(self) -> None:
        """End what is under way."""
        for task in self._asking:
            task.cancel()

    async def _fetch(self, name: BlobHash, owner: PublicKey) -> None:
        known = certifiers(self.charter, self.successors())
        try:
            await self.swarm.fetch(name, MAX_PROOF_BYTES, [owner])
            payload = await asyncio.to_thread(self.blobs.get, name)
            proof = open_proof_of_any(payload, run=self.charter.run, known=known)
            await asyncio.to_thread(self.keep, proof)
        except (TrustError, *BY_DATA) as error:
            log.debug("%s names no proof: %s", owner[:8], error)
            self._refused.add(owner)
        except (BarnraiseError, FileNotFoundError) as error:
            log.debug("the proof of %s is not here yet: %s", owner[:8], error)
            self._known.discard(name)
