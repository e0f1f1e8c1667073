"""Proofs of double signing that a volunteer keeps, as files in its folder of the run."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

from barnraise.contract.archive import PROOFS as PROOFS
from barnraise.contract.charter import Charter
from barnraise.contract.double_signing import DoubleSigned, open_proof_of_any
from barnraise.contract.run_keys import Successors
from barnraise.contract.tip import certifiers
from barnraise.core.errors import TrustError
from barnraise.core.ids import BlobHash, blob_hash
from barnraise.runtime.blob_store import BlobStore
from barnraise.runtime.files import write_atomic

log = logging.getLogger("peer")


@dataclass
class Proofs:
    """Synchronous."""

    folder: Path
    charter: Charter
    blobs: BlobStore
    """Other nodes get them from there."""
    successors: Successors = ()
    """Of the charter's run key: they may have signed two histories."""
    _kept: dict[int, DoubleSigned] = field(default_factory=dict)
    """By epoch."""

    def __post_init__(self) -> None:
        found = read_proofs(self.folder, self.charter, self.successors)
        self._kept = {proof.first.vote.epoch: proof for proof in found}
        for proof in found:
            self.blobs.put(proof.payload)

    @property
    def name(self) -> BlobHash | None:
        """The blob of the newest one; None where there is none."""
        return blob_hash(self._kept[max(self._kept)].payload) if self._kept else None

    def newest(self, epoch: int) -> DoubleSigned | None:
        """The proof that an epoch has two histories."""
        return self._kept.get(epoch)

    def keep(self, proof: DoubleSigned) -> Path:
        """Write a proof to disk; return its path. Raises DiskFull."""
        path = self.folder / blob_hash(proof.payload)
        write_atomic(path, proof.payload)
        self.blobs.put(proof.payload)
        self._kept[proof.first.vote.epoch] = proof
        return path


def read_proofs(folder: Path, charter: Charter, successors: Successors = ()) -> list[DoubleSigned]:
    """The valid proofs in a folder: of the run keys, or of the charter's closers. Others are logged."""
    found, known = [], certifiers(charter, successors)
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        try:
            found.append(open_proof_of_any(path.read_bytes(), run=charter.run, known=known))
        except TrustError as error:
            log.warning("%s is ignored: %s", path, error.problem)
    return found
