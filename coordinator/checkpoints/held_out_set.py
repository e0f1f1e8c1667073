"""The held-out text on which checkpoints are evaluated, in the archive where vouched volunteers need it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from barnraise.contract.archive import HELD_OUT_INDEX, held_out_path
from barnraise.contract.held_out_set import held_out_samples
from barnraise.contract.shards import DataIndex
from barnraise.core.ids import BlobHash, blob_hash
from barnraise.runtime.blob_store import BlobStore
from barnraise.runtime.files import disk_errors, link_or_copy, write_atomic


@dataclass(frozen=True)
class HeldOutSet:
    hash: BlobHash
    """Of the index."""
    tokens: int
    """That a loss is the mean of."""
    shards: tuple[BlobHash, ...]
    """Those of the index that are needed."""


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
    """Let anybody read it. What is there is left. Raises DiskFull, MachineError."""
    index = archive / held_out_path(HELD_OUT_INDEX)
    if index.is_file():
        return
    with disk_errors(archive):
        index.parent.mkdir(parents=True, exist_ok=True)
        for name in held_out_set.shards:
            target = archive / held_out_path(name)
            if not target.exists():
                link_or_copy(BlobStore(folder).path(name), target)
    write_atomic(index, (folder / HELD_OUT_INDEX).read_bytes())
