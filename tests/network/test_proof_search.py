"""Proofs that heartbeats name are found although others name what they do not serve."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from random import Random

from barnraise.contract.double_signing import DoubleSigned, proof_of
from barnraise.core.errors import Unreachable
from barnraise.core.identity import Identity
from barnraise.core.ids import BlobHash, PublicKey, blob_hash
from barnraise.core.signed import sign
from barnraise.fold.log import certified
from barnraise.network.proof_search import AT_ONCE, ProofSearch
from barnraise.runtime.blob_store import BlobStore
from tests.support import parts
from tests.support.coordinators import FakeSwarm

CHARTER = parts.charter(parts.run_spec(), parts.state())
COMMIT = sign(parts.ADA, parts.commit(parts.ADA))
PROOF = proof_of(
    *(
        certified(parts.link([COMMIT], previous=CHARTER.digest, reason=reason))
        for reason in ("one", "another")
    )
)
NAME = blob_hash(PROOF.payload)
SILENT = [Identity.from_seed(bytes([100 + n]) * 32) for n in range(4 * AT_ONCE)]


class OneHolder(FakeSwarm):
    """One node serves what it names, and the others do not answer."""

    async def fetch(self, name: BlobHash, limit: int, holders: Sequence[PublicKey]) -> Path:
        if parts.ADA.public not in holders:
            raise Unreachable(f"no holder served the blob {name[:8]}", fix="It is fetched again.")
        return await super().fetch(name, limit, holders)


def test_volunteers_that_do_not_answer_do_not_exclude_others(tmp_path: Path) -> None:
    blobs, kept = BlobStore(tmp_path / "blobs"), list[DoubleSigned]()
    swarm = OneHolder(blobs, held={NAME: PROOF.payload})
    search = ProofSearch(CHARTER, swarm.as_swarm, blobs, tuple, kept.append, Random(1))
    same = [parts.presence(each, proof=NAME) for each in SILENT[: 2 * AT_ONCE]]
    others = [parts.presence(each, proof=blob_hash(each.public.encode())) for each in SILENT[2 * AT_ONCE :]]

    async def looks() -> None:
        for _ in range(100):
            search.look([*same, *others, parts.presence(parts.ADA, proof=NAME)])
            await search.finish()

    asyncio.run(looks())
    assert kept == [PROOF]
