"""A state whose index and tensors are blobs of the store (`barnraise.contract.state_index`)."""

from __future__ import annotations

from barnraise.contract.state import TrainState
from barnraise.contract.state_index import WantedState, assemble, read_index
from barnraise.core.errors import FileDamaged, MalformedBlob
from barnraise.runtime.blob_store import BlobStore


def stored_state(wanted: WantedState, blobs: BlobStore) -> TrainState | None:
    """The state; None unless all of its blobs are here and intact. Slow: reads them. Raises DiskFull."""
    try:
        return assemble(wanted, read_index(blobs.get(wanted.index), wanted), blobs.get)
    except (FileNotFoundError, FileDamaged, MalformedBlob):
        return None


def remove_state(wanted: WantedState, blobs: BlobStore) -> None:
    """Remove the blobs of a state, but not the index of one that is served. Raises DiskFull."""
    try:
        tensors = read_index(blobs.get(wanted.index), wanted)
    except (FileNotFoundError, FileDamaged, MalformedBlob):
        return
    for each in tensors:
        blobs.remove(each.blob)
    if not any(blobs.lent(each.blob) for each in tensors):
        blobs.remove(wanted.index)
