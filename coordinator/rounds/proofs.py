"""Proofs that keys of the run contradict themselves: served as blobs, and put into the archive."""

from __future__ import annotations

import logging

from barnraise.contract.archive import PROOFS
from barnraise.contract.double_signing import DoubleSigned
from barnraise.core.ids import BlobHash, blob_hash
from barnraise.runtime.files import write_atomic
from coordinator.run_folder import ARCHIVE
from coordinator.store.run_store import RunStore

log = logging.getLogger("coordinator")


def publish_proof(store: RunStore, proof: bytes) -> BlobHash:
    """Keep a proof, serve it as a blob, and put it into the archive, whose readers report it."""
    name = store.blobs.put(proof)
    write_atomic(store.folder / ARCHIVE / PROOFS / name, proof)
    return name


def keep_double_signed(store: RunStore, proof: DoubleSigned) -> None:
    """Publish a proof that volunteers hold, and log it where it is new."""
    if not (store.folder / ARCHIVE / PROOFS / blob_hash(proof.payload)).exists():
        name = publish_proof(store, proof.payload)
        log.error(
            "the run's keys signed two histories at round %d in epoch %d: volunteers follow neither until the"
            " run resumes. The proof is %s",
            proof.first.vote.round, proof.first.vote.epoch, name,
        )  # fmt: skip
