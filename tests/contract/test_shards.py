"""Shards and indexes: they round-trip, and malformed ones are refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from barnraise.contract.shards import (
    IGNORED,
    MAX_SHARD_BYTES,
    DataIndex,
    Sample,
    ShardRef,
    pack_shard,
    parse_shard,
)
from barnraise.core.errors import MalformedBlob
from barnraise.core.ids import blob_hash

LENGTH = 8


@st.composite
def samples(draw: st.DrawFn) -> list[Sample]:
    made = []
    for _ in range(draw(st.integers(1, 5))):
        ids = np.array(draw(st.lists(st.integers(0, 99), min_size=LENGTH, max_size=LENGTH)), np.int32)
        starts = draw(st.sets(st.integers(1, LENGTH - 1))) | {0}
        trained = draw(st.sets(st.integers(0, LENGTH - 1))) - starts
        positions = np.array([i - max(s for s in starts if s <= i) for i in range(LENGTH)], np.int32)
        labels = np.array([ids[i] if i in trained else IGNORED for i in range(LENGTH)], np.int32)
        made.append(Sample(ids, labels, positions))
    return made


def one_sample() -> Sample:
    ids = np.arange(LENGTH, dtype=np.int32)
    labels = np.where((ids > 1) & (ids != 4), ids, IGNORED).astype(np.int32)
    return Sample(ids, labels, np.array([0, 1, 2, 3, 0, 1, 2, 3], np.int32))


@given(samples())
def test_packed_samples_round_trip(given_samples: list[Sample]) -> None:
    data = pack_shard(given_samples)
    shard = parse_shard(data, LENGTH, vocab_size=100)
    assert len(shard) == len(given_samples)
    for before, after in zip(given_samples, shard, strict=True):
        for field in ("input_ids", "labels", "position_ids"):
            assert np.array_equal(getattr(before, field), getattr(after, field))
            assert getattr(after, field).dtype == np.int32
        assert before.trained_tokens == after.trained_tokens
    assert pack_shard(list(shard)) == data


def test_the_bytes_of_a_shard_do_not_change() -> None:
    assert blob_hash(pack_shard([one_sample()])) == GOLDEN


GOLDEN = "670ff18780ec7dfb09d2a6dac7557e154b77c34a1e0edc8c329f1bbb7126fe3c"


@pytest.mark.parametrize(
    "wrong",
    [
        replace(one_sample(), labels=np.full(LENGTH, 3, np.int32)),
        replace(one_sample(), position_ids=np.array([0, 1, 2, 9, 0, 1, 2, 3], np.int32)),
        replace(one_sample(), position_ids=np.arange(1, LENGTH + 1, dtype=np.int32)),
        replace(one_sample(), labels=one_sample().input_ids),
    ],
    ids=["label", "gap in positions", "no start", "first token trained"],
)
def test_a_contradictory_sample_is_not_packed(wrong: Sample) -> None:
    with pytest.raises(ValueError, match=r"label|position|start|first token"):
        pack_shard([wrong])


def tensors(**changed: Any) -> bytes:
    good = {
        "input_ids": np.arange(2 * LENGTH, dtype=np.int32).reshape(2, LENGTH),
        "starts": np.eye(1, LENGTH, dtype=np.uint8).repeat(2, axis=0),
        "trained": 1 - np.eye(1, LENGTH, dtype=np.uint8).repeat(2, axis=0),
    }
    return bytes(save({name: array for name, array in (good | changed).items() if array is not None}))


def with_header(dtype: str) -> bytes:
    header = json.dumps({"input_ids": {"dtype": dtype, "shape": [4], "data_offsets": [0, 8]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(8)


def test_the_example_of_the_next_test_is_valid_before_it_is_damaged() -> None:
    assert len(parse_shard(tensors(), LENGTH, vocab_size=16)) == 2


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 64,
        tensors()[:-1],
        with_header("BF16"),
        tensors(extra=np.zeros(1, np.int32)),
        tensors(starts=None),
        tensors(input_ids=np.zeros((2, LENGTH), np.int64)),
        tensors(input_ids=np.zeros((2, LENGTH + 1), np.int32)),
        tensors(input_ids=np.zeros((3, LENGTH), np.int32)),
        tensors(input_ids=np.array(0, np.int32)),
        tensors(**{name: np.zeros((0, LENGTH), np.uint8) for name in ("starts", "trained")}),
        tensors(input_ids=np.full((2, LENGTH), 16, np.int32)),
        tensors(input_ids=np.full((2, LENGTH), -1, np.int32)),
        tensors(starts=np.zeros((2, LENGTH), np.uint8)),
        tensors(starts=np.full((2, LENGTH), 2, np.uint8)),
        tensors(trained=np.ones((2, LENGTH), np.uint8)),
        bytes(MAX_SHARD_BYTES + 1),
    ],
)
def test_hostile_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedBlob):
        parse_shard(data, LENGTH, vocab_size=16)


@given(st.binary(max_size=64), st.integers(0, 400))
def test_a_damaged_shard_is_refused_or_still_valid(noise: bytes, at: int) -> None:
    good = tensors()
    damaged = good[:at] + noise + good[at + len(noise) :]
    try:
        shard = parse_shard(damaged, LENGTH, vocab_size=16)
    except MalformedBlob:
        return
    assert pack_shard(list(shard))


def index() -> DataIndex:
    data = pack_shard([one_sample()])
    return DataIndex(
        sequence_length=LENGTH, vocab_size=16, shards=(ShardRef.of(data, 1),), tokens=8, trained_tokens=5
    )


def test_an_index_round_trips() -> None:
    assert DataIndex.from_bytes(index().to_bytes()) == index()
    assert index().shard_sizes == (1,)


@pytest.mark.parametrize(
    "changed",
    [
        {"tokens": 9},
        {"trained_tokens": 9},
        {"tokens": "8"},
        {"more": 1},
        {"sequence_length": 0},
        {"shards": [{"hash": "A" * 64, "samples": 1, "size": 300}]},
        {"shards": [{"hash": "a" * 64, "samples": 0, "size": 300}]},
        {"shards": [{"hash": "a" * 64, "samples": 1, "size": MAX_SHARD_BYTES + 1}]},
        {"shards": [{"hash": "a" * 64, "samples": 1, "size": 5}]},
    ],
)
def test_an_impossible_index_is_refused(changed: dict[str, Any]) -> None:
    data = json.dumps(json.loads(index().to_bytes()) | changed).encode()
    with pytest.raises(MalformedBlob):
        DataIndex.from_bytes(data)


def test_an_index_that_is_not_json_is_refused() -> None:
    with pytest.raises(MalformedBlob):
        DataIndex.from_bytes(b"\x80{")
