"""Pieces of a blob, their list and their bitmap."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnraise.contract.pieces import (
    PIECE_BYTES,
    PieceList,
    Wanted,
    bitmap,
    every_piece,
    open_bitmap,
    piece_count,
    piece_length,
    piece_list,
    pieces_hash,
)
from barnraise.core.errors import HashMismatch, MalformedBlob
from barnraise.core.ids import BlobHash, PublicKey, blob_hash

sizes = st.sampled_from(
    [1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES, 3 * PIECE_BYTES + 7]
)


def wanted(data: bytes) -> Wanted:
    return Wanted(blob_hash(data), len(data), pieces_hash(data), PublicKey("ab" * 32))


@given(sizes)
def test_the_pieces_are_the_whole_blob(size: int) -> None:
    data = bytes(range(251)) * (size // 251 + 1)
    data = data[:size]
    lengths = [piece_length(size, index) for index in range(piece_count(size))]
    assert sum(lengths) == size
    assert all(0 < length <= PIECE_BYTES for length in lengths)
    listing = PieceList.opened(piece_list(data), wanted(data))
    for index in range(len(lengths)):
        piece = data[index * PIECE_BYTES : (index + 1) * PIECE_BYTES]
        assert listing.fits(index, piece)
        assert listing.wire[index * 32 : index * 32 + 32] == hashlib.sha256(piece).digest()
        assert not listing.fits(index, piece[:-1] + bytes([piece[-1] ^ 1]))
        assert not listing.fits(index, piece + b"\0")


@pytest.mark.parametrize(
    "spoil", [lambda w: w[:-1], lambda w: w + b"\0", lambda w: b"", lambda w: w[32:] + w[:32]]
)
def test_another_list_than_the_commit_names_is_refused(spoil) -> None:  # type: ignore[no-untyped-def]
    data = bytes(PIECE_BYTES) + b"x"
    with pytest.raises(HashMismatch, match="a piece list of"):
        PieceList.opened(spoil(piece_list(data)), wanted(data))


def test_a_list_of_another_length_is_refused_even_with_a_valid_hash() -> None:
    data = bytes(PIECE_BYTES) + b"x"
    lying = Wanted(blob_hash(data), PIECE_BYTES, pieces_hash(data), PublicKey("ab" * 32))
    with pytest.raises(HashMismatch, match="not 32"):
        PieceList.opened(piece_list(data), lying)


@given(st.integers(1, 70), st.data())
def test_a_bitmap_round_trips(count: int, data: st.DataObject) -> None:
    has = data.draw(st.integers(0, every_piece(count)))
    assert open_bitmap(bitmap(has, count), count) == has


@pytest.mark.parametrize(("wire", "count"), [(b"\x08", 3), (b"\xff\x02", 9), (b"\x01\x00", 8), (b"", 1)])
def test_a_bitmap_with_pieces_after_the_end_is_refused(wire: bytes, count: int) -> None:
    with pytest.raises(MalformedBlob, match="bitmap"):
        open_bitmap(wire, count)


def test_an_empty_blob_has_no_pieces() -> None:
    assert (piece_count(0), piece_list(b""), every_piece(0)) == (0, b"", 0)
    assert BlobHash(hashlib.sha256(b"").hexdigest()) == pieces_hash(b"")
