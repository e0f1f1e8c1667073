"""A .gguf file that attacks the machines that open it: its header is bounded before a library reads it."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from barnraise.core.errors import ModelUnusable
from barnraise.models.gguf_header import check_header
from barnraise.models.gguf_limits import MAX_ELEMENTS, MAX_KEYS, MAX_TENSORS, MAX_TOKEN, check_counts


def text(data: bytes) -> bytes:
    return struct.pack("<Q", len(data)) + data


def gguf(pairs: list[bytes], tensors: int = 0, keys: int | None = None, body: bytes = b"") -> bytes:
    counts = struct.pack("<IQQ", 3, tensors, len(pairs) if keys is None else keys)
    return b"GGUF" + counts + b"".join(pairs) + body


def number(key: bytes, value: int) -> bytes:
    return text(key) + struct.pack("<IQ", 10, value)


def array(kind: int, count: int, data: bytes = b"") -> bytes:
    return text(b"a") + struct.pack("<IIQ", 9, kind, count) + data


@pytest.mark.parametrize(
    "data",
    [
        b"", b"GGUF", b"PK\x03\x04" + bytes(100), gguf([], keys=MAX_KEYS + 1), gguf([], keys=2**63),
        gguf([], tensors=MAX_TENSORS + 1), gguf([], tensors=2**64 - 1), gguf([], tensors=1),
        gguf([array(0, MAX_ELEMENTS + 1, bytes(MAX_ELEMENTS + 1))]), gguf([array(0, 2**63)]),
        gguf([array(8, 2**40)]), gguf([array(9, 1, struct.pack("<IQ", 9, 2**40))]), gguf([array(77, 1)]),
        gguf([array(8, 1, text(b" " * (MAX_TOKEN + 1)))]),
        gguf([array(8, 20_000, text(b" " * MAX_TOKEN) * 20_000)]),
        gguf([text(b"k") + struct.pack("<I", 99)]), gguf([struct.pack("<Q", 2**62)]),
        gguf([number(b"llama.block_count", 200_000)]), gguf([number(b"llama.embedding_length", 2**40)]),
        gguf([], tensors=1, body=text(b"t") + struct.pack("<I", 2**31)),
    ],
    ids=lambda data: f"{len(data)}-{data[4:24].hex()}",
)  # fmt: skip
def test_a_gguf_header_is_bounded_before_a_library_reads_it(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    with pytest.raises(ValueError):  # noqa: PT011
        check_counts(path)
    with pytest.raises(ModelUnusable):
        check_header(path)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=64))
def test_any_bytes_are_a_gguf_file_or_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF\x03\0\0\0" + data)
    with pytest.raises(ModelUnusable):
        check_header(path)
