"""Whether an archive has the proof that its newest epoch has two histories, or that a closer lied."""

from __future__ import annotations

import logging
from collections.abc import Callable

from barnraise.consensus.lies import MAX_LIE_BYTES, Lie, open_lie
from barnraise.contract.archive import proof_path
from barnraise.contract.charter import Charter
from barnraise.contract.double_signing import MAX_PROOF_BYTES, DoubleSigned, open_proof_of_any
from barnraise.contract.run_keys import Successors, keys_of
from barnraise.contract.tip import certifiers, holders
from barnraise.core.errors import BadSignature, TrustError
from barnraise.fold.replay import Cause, Difference
from peer.archive.reading import RunArchive
from peer.archive.sources import Missing
from peer.verify.events import CloserLied

log = logging.getLogger("peer")


async def two_histories(
    archive: RunArchive, successors: Successors, report: Callable[[CloserLied], None]
) -> Difference | None:
    """The first valid proof. A false one is ignored, and so is one of an epoch that a resume ended.

    successors: of the charter's run key, which may have signed proofs. report: gets each proof that a closer
    lied. The log may be right all the same: a majority certifies it. Raises Unreachable.
    """
    epoch, _ = archive.index.length
    for name in archive.index.proofs:
        path = proof_path(name)
        try:
            payload = await archive.source.get_small(path, max(MAX_PROOF_BYTES, MAX_LIE_BYTES))
            proof = _opened(payload, archive.charter, successors)
        except (Missing, TrustError) as error:
            log.warning("%s of %s is ignored: %s", path, archive.source.name, error.problem)
            continue
        if isinstance(proof, Lie):
            report(CloserLied(proof.closer, proof.kind.value, proof.first.value.round))
            continue
        vote, other = proof.first.vote, proof.second.vote
        if vote.epoch >= epoch:
            expected = f"one {vote.kind} of round {vote.round} in epoch {vote.epoch}: {vote.entry}"
            return Difference("history", path, expected, f"also {other.entry}", Cause.COORDINATOR)
    return None


def _opened(payload: bytes, charter: Charter, successors: Successors) -> DoubleSigned | Lie:
    """Raises MalformedRecord, BadSignature where the bytes prove neither."""
    try:
        lie = open_lie(payload, run=charter.run)
    except TrustError:
        return open_proof_of_any(payload, run=charter.run, known=certifiers(charter, successors))
    if lie.closer not in (*holders(charter), *keys_of(charter.authority_key, successors)):
        raise BadSignature("a proof that a stranger lied", fix="It is dropped.")
    return lie
