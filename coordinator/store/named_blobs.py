"""Which blobs of a run's store may never be removed for what a stranger's commit says of them."""

from __future__ import annotations

from barnraise.contract.shards import DataIndex
from barnraise.core.errors import FileDamaged, MalformedBlob
from barnraise.core.ids import BlobHash
from barnraise.runtime.blob_store import BlobStore
from coordinator.store.run_state import RunState


def named_by_run(run: RunState, blobs: BlobStore) -> set[BlobHash]:
    """The charter, the log, the data, and what the run keeps of checkpoints and contributions."""
    charter = run.charter
    log = (logged.name for logged in run.log)
    return {*run.names(), *log, BlobHash(charter.digest), charter.data_index_hash, *_shards(run, blobs)}


def _shards(run: RunState, blobs: BlobStore) -> set[BlobHash]:
    """None without the index: then no shard is here that was not fetched by the index."""
    try:
        index = DataIndex.from_bytes(blobs.get(run.charter.data_index_hash))
    except (FileDamaged, FileNotFoundError, MalformedBlob):
        return set()
    return {BlobHash(ref.blob) for ref in index.shards}
