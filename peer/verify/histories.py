"""Whether an archive has the proof that its newest epoch has two histories."""

from __future__ import annotations

import logging

from barnraise.contract.archive import proof_path
from barnraise.contract.certificates import Authorities
from barnraise.contract.double_signing import MAX_PROOF_BYTES, open_proof
from barnraise.core.errors import TrustError
from barnraise.fold.replay import Cause, Difference
from peer.archive.reading import RunArchive
from peer.archive.sources import Missing

log = logging.getLogger("peer")


async def two_histories(archive: RunArchive) -> Difference | None:
    """The first valid proof. A false one is ignored, and so is one of an epoch that a resume ended.

    Raises Unreachable.
    """
    epoch, _ = archive.index.length
    for name in archive.index.proofs:
        path = proof_path(name)
        try:
            payload = await archive.source.get_small(path, MAX_PROOF_BYTES)
            proof = open_proof(payload, run=archive.run, authorities=Authorities((archive.key,)))
        except (Missing, TrustError) as error:
            log.warning("%s of %s is ignored: %s", path, archive.source.name, error.problem)
            continue
        vote, other = proof.first.vote, proof.second.vote
        if vote.epoch >= epoch:
            expected = f"one {vote.kind} of round {vote.round} in epoch {vote.epoch}: {vote.entry}"
            return Difference("history", path, expected, f"also {other.entry}", Cause.COORDINATOR)
    return None
