"""The held-out text that checkpoints are evaluated on, published where the run names evaluators."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from barnraise.contract.archive import HELD_OUT_INDEX, held_out_path
from barnraise.contract.held_out_set import held_out_samples
from barnraise.contract.shards import DataIndex
from barnraise.core.ids import BlobHash, blob_hash
from barnraise.runtime.blob_store import BlobStore
from barnraise.runtime.files import Batch, write_atomic


@dataclass(frozen=True)
class HeldOutSet:
    """The part of the held-out text that an evaluation uses."""

    hash: BlobHash
    """Of the index."""
    tokens: int
    """Tokens that a loss is the mean of."""
    shards: tuple[BlobHash, ...]
    """The shards of the index that it needs."""


def read_held_out_set(folder: Path, limit: int) -> HeldOutSet:
    """The samples that `barnraise.evaluation.runner` takes of `folder` for about `limit` tokens."""
    blobs, shards = BlobStore(folder), list[BlobHash]()

    def get(name: BlobHash) -> bytes:
        shards.append(name)
        return blobs.get(name)

    wire = (folder / HELD_OUT_INDEX).read_bytes()
    samples = held_out_samples(DataIndex.from_bytes(wire), get, limit)
    tokens = sum(sample.trained_tokens for sample in samples)
    return HeldOutSet(blob_hash(wire), tokens, tuple(shards))


def publish_held_out_set(held_out_set: HeldOutSet, folder: Path, archive: Path) -> None:
    """Copy it to the archive, unless it is there. Raises DiskFull, MachineError."""
    index = archive / held_out_path(HELD_OUT_INDEX)
    if index.is_file():
        return
    with Batch() as batch:
        for name in held_out_set.shards:
            batch.link(BlobStore(folder).path(name), archive / held_out_path(name))
    write_atomic(index, (folder / HELD_OUT_INDEX).read_bytes())
