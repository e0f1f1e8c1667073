"""The index of a state: its SHA-256 is the state's hash, and what does not fit to the run is refused."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from barnraise.contract.state import TrainState, index_bytes
from barnraise.contract.state_index import WantedState, assemble, index_of, read_index
from barnraise.core.errors import MalformedBlob
from barnraise.core.ids import BlobHash, StateHash, blob_hash
from tests.support.parts import HASH_A, tensors

STATE = TrainState(tensors(1), {"v": tensors(3), "m": tensors(2)}, 7)
BLOBS = {
    blob_hash(array.tobytes()): array.tobytes()
    for group in (STATE.params, *STATE.buffers.values())
    for array in group.values()
}
WANTED = WantedState(STATE.hash(), 7, STATE.layout.digest(), ("m", "v"))


def lines(state: TrainState) -> list[tuple[str, tuple[int, ...], str]]:
    groups = {"params": state.params, **state.buffers}
    return [
        (f"{group}/{name}", array.shape, hashlib.sha256(array.tobytes()).hexdigest())
        for group, found in groups.items()
        for name, array in found.items()
    ]


INDEX = index_of(7, lines(STATE))


def refused(payload: bytes, **changes: Any) -> None:
    """Assert that a state whose hash is that of `payload` is refused."""
    wanted = replace(WANTED, hash=StateHash(blob_hash(payload)))
    with pytest.raises(MalformedBlob):
        read_index(payload, replace(wanted, **changes))


def test_the_hash_of_the_index_is_that_of_the_state() -> None:
    assert blob_hash(INDEX) == BlobHash(STATE.hash()) == WANTED.index


def test_a_state_is_assembled_from_its_index_and_its_tensors() -> None:
    found = assemble(WANTED, read_index(INDEX, WANTED), BLOBS.__getitem__)
    assert found.hash() == STATE.hash()
    assert found.params.keys() == STATE.params.keys()
    assert found.buffers.keys() == STATE.buffers.keys()
    assert all(array.flags.writeable for array in found.params.values())


def test_each_tensor_has_the_size_of_its_shape() -> None:
    assert all(each.size == len(BLOBS[each.blob]) for each in read_index(INDEX, WANTED))


def test_an_index_with_another_hash_is_refused() -> None:
    with pytest.raises(MalformedBlob):
        read_index(INDEX + b" ", WANTED)


@pytest.mark.parametrize(
    "payload", [b"", b"[]", b"[7]", b"{}", b"[" * 100_000, b'[7, [["params/a", [-1], "00"]]]']
)
def test_bytes_that_are_no_index_are_refused(payload: bytes) -> None:
    refused(payload)


def test_an_index_of_another_round_layout_or_optimizer_is_refused() -> None:
    refused(INDEX, step=8)
    refused(INDEX, layout=HASH_A)
    refused(INDEX, buffers=("momentum",))
    refused(INDEX, buffers=("m",))
    refused(INDEX, buffers=("m", "v", "w"))


def test_tensors_in_another_order_or_twice_are_refused() -> None:
    in_order = sorted(lines(STATE), key=lambda line: (not line[0].startswith("params"), line[0]))
    assert index_bytes(7, in_order) == INDEX
    refused(index_bytes(7, [*in_order[1:], in_order[0]]))
    refused(index_bytes(7, [*in_order, in_order[-1]]))
    refused(index_bytes(7, in_order[:-1]))


def test_values_that_are_not_finite_are_refused() -> None:
    params = {name: np.full_like(array, np.nan) for name, array in STATE.params.items()}
    broken = replace(STATE, params=params)
    blobs = BLOBS | {blob_hash(array.tobytes()): array.tobytes() for array in params.values()}
    wanted = replace(WANTED, hash=broken.hash())
    with pytest.raises(MalformedBlob):
        assemble(wanted, read_index(index_of(7, lines(broken)), wanted), blobs.__getitem__)


def test_a_blob_of_another_size_is_refused() -> None:
    def cut(name: BlobHash) -> bytes:
        return BLOBS[name][:-4]

    with pytest.raises(MalformedBlob):
        assemble(WANTED, read_index(INDEX, WANTED), cut)
