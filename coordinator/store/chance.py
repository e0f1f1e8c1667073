"""The loss of a model that knows nothing, from the index of the run's data."""

from __future__ import annotations

from barnraise.contract.charter import Charter
from barnraise.contract.shards import DataIndex
from barnraise.core.errors import FileDamaged, MalformedBlob
from barnraise.runtime.blob_store import BlobStore


def chance_of(charter: Charter, blobs: BlobStore) -> float | None:
    """In nats a token; None without the data's index."""
    try:
        return DataIndex.from_bytes(blobs.get(charter.data_index_hash)).chance
    except (FileDamaged, FileNotFoundError, MalformedBlob):
        return None
