"""The format of training data: packed samples in content-addressed shards, and their index.

A shard is a safetensors file of three tensors [n, L]: the token ids (int32), and one byte each
for "this token is trained on" and "a document starts here". Labels and positions follow from these,
so a token takes six bytes and a shard cannot contradict itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError, model_validator
from safetensors import SafetensorError
from safetensors.numpy import load, save

from barnraise.core.errors import MalformedBlob
from barnraise.core.ids import BlobHash, blob_hash
from barnraise.core.strict import Hex64, Strict

Ints = npt.NDArray[np.int32]
Flags = npt.NDArray[np.bool_]

IGNORED = -100
"""Label of a token that is not trained on (the Hugging Face convention)."""
BYTES_PER_TOKEN = 6
"""int32 token id, one byte "trained", one byte "document starts"."""
MAX_SHARD_BYTES = 4 << 20
"""Largest shard; larger ones are refused before they are parsed."""
MAX_INDEX_BYTES = 64 << 20
"""Largest index: about 500,000 shards."""
_DTYPES = {"input_ids": "int32", "starts": "uint8", "trained": "uint8"}
_FIX = "Fetch it again from another peer or from the coordinator, and report the sender."


@dataclass(frozen=True)
class Sample:
    """One packed training sample. All arrays are int32 [L], L the run's sequence length."""

    input_ids: Ints
    labels: Ints
    """Not shifted: the input id where the token is trained on, else -100. The first token of a
    document has no context to predict it from, so it is never trained on."""
    position_ids: Ints
    """Restarts at 0 with every document, so that attention does not cross documents."""

    @property
    def trained_tokens(self) -> int:
        """Tokens that the loss counts."""
        return int(np.count_nonzero(self.labels != IGNORED))


@dataclass(frozen=True)
class Shard:
    """A parsed shard: n samples of L tokens. The arrays are [n, L]."""

    input_ids: Ints
    trained: Flags
    starts: Flags

    def __len__(self) -> int:
        return len(self.input_ids)

    def __iter__(self) -> Iterator[Sample]:
        return (self.sample(row) for row in range(len(self)))

    def sample(self, row: int) -> Sample:
        """Sample `row`, 0 ≤ row < len(self)."""
        index = np.arange(self.starts.shape[1], dtype=np.int32)
        begun = np.maximum.accumulate(np.where(self.starts[row], index, 0))
        ids = self.input_ids[row]
        labels = np.where(self.trained[row], ids, IGNORED)
        return Sample(ids, labels.astype(np.int32), (index - begun).astype(np.int32))


def pack_shard(samples: Sequence[Sample]) -> bytes:
    """The bytes of a shard, the same for the same samples.

    Raises ValueError for what a shard cannot contain: no samples, unequal lengths, labels that are neither
    -100 nor the input id, positions that do not count up from each restart, too many bytes.
    """
    if not samples:
        raise ValueError("a shard holds at least one sample")
    shard = Shard(
        np.stack([sample.input_ids for sample in samples]).astype(np.int32),
        np.stack([sample.labels != IGNORED for sample in samples]),
        np.stack([sample.position_ids == 0 for sample in samples]),
    )
    for given, kept in zip(samples, shard, strict=True):
        if not np.array_equal(given.labels, kept.labels):
            raise ValueError("a label is neither -100 nor its input id")
        if not np.array_equal(given.position_ids, kept.position_ids):
            raise ValueError("position ids do not count up from each restart")
    return shard_bytes(shard)


def shard_bytes(shard: Shard) -> bytes:
    """The bytes of a shard, the same for the same values. Raises ValueError for what it cannot contain."""
    if fault := _fault(shard, vocab_size=None):
        raise ValueError(fault)
    data: bytes = save(
        {
            "input_ids": shard.input_ids,
            "starts": shard.starts.view(np.uint8),
            "trained": shard.trained.view(np.uint8),
        }
    )
    if len(data) > MAX_SHARD_BYTES:
        raise ValueError(f"a shard of {len(data)} bytes is above the limit of {MAX_SHARD_BYTES}")
    return data


def parse_shard(data: bytes, sequence_length: int, vocab_size: int | None) -> Shard:
    """Read a shard from bytes that may be hostile.

    `vocab_size` bounds the token ids; None leaves them unbounded above. Raises MalformedBlob.
    """
    if len(data) > MAX_SHARD_BYTES:
        raise _malformed(f"{len(data)} bytes, above the limit of {MAX_SHARD_BYTES}")
    try:
        tensors = load(data)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        # KeyError and TypeError: dtypes that safetensors knows and numpy does not.
        raise _malformed(f"not a safetensors file ({error})") from None
    if {name: str(array.dtype) for name, array in tensors.items()} != _DTYPES:
        raise _malformed("its tensors are not input_ids, trained and starts of their types")
    rows = len(tensors["input_ids"]) if tensors["input_ids"].ndim else 0
    if rows < 1 or any(array.shape != (rows, sequence_length) for array in tensors.values()):
        raise _malformed(f"its tensors are not all of shape [n, {sequence_length}]")
    if max(int(tensors["trained"].max()), int(tensors["starts"].max())) > 1:
        raise _malformed("a flag is neither 0 nor 1")
    shard = Shard(
        tensors["input_ids"], tensors["trained"].astype(np.bool_), tensors["starts"].astype(np.bool_)
    )
    if fault := _fault(shard, vocab_size):
        raise _malformed(fault)
    return shard


def _fault(shard: Shard, vocab_size: int | None) -> str:
    """What is wrong with the values of a shard, or an empty string."""
    if not shard.starts[:, 0].all():
        return "a sample does not begin with the start of a document"
    if (shard.trained & shard.starts).any():
        return "the first token of a document is trained on, which nothing predicts"
    if int(shard.input_ids.min()) < 0:
        return "a token id is negative"
    if vocab_size is not None and int(shard.input_ids.max()) >= vocab_size:
        return f"a token id is not below the vocabulary's size {vocab_size}"
    return ""


def _malformed(problem: str) -> MalformedBlob:
    return MalformedBlob(f"a data shard is malformed: {problem}", fix=_FIX)


class ShardRef(Strict):
    """A shard's hash, and what to expect of it."""

    hash: Hex64
    """SHA-256 of the shard's bytes."""
    samples: Annotated[int, Field(ge=1)]
    size: Annotated[int, Field(ge=1, le=MAX_SHARD_BYTES)]
    """Bytes of the shard."""

    @classmethod
    def of(cls, data: bytes, samples: int) -> ShardRef:
        return cls(hash=blob_hash(data), samples=samples, size=len(data))

    @property
    def blob(self) -> BlobHash:
        return BlobHash(self.hash)


class DataIndex(Strict):
    """The shards of a dataset, in order.

    The held-out samples have their own index, which the coordinator keeps unless the spec names evaluators.
    """

    sequence_length: Annotated[int, Field(ge=8, le=131_072)]
    vocab_size: Annotated[int, Field(ge=1)]
    """All token ids are below this."""
    shards: tuple[ShardRef, ...]
    tokens: Annotated[int, Field(ge=0)]
    """Tokens of text, without padding."""
    trained_tokens: Annotated[int, Field(ge=0)]
    """Tokens that the loss counts."""

    @model_validator(mode="after")
    def _counts_agree(self) -> DataIndex:
        if not self.trained_tokens <= self.tokens <= self.samples * self.sequence_length:
            raise ValueError("trained_tokens ≤ tokens ≤ samples · sequence_length does not hold")
        if any(ref.size < ref.samples * self.sequence_length * BYTES_PER_TOKEN for ref in self.shards):
            raise ValueError("a shard is too small for its samples")
        return self

    @property
    def chance(self) -> float:
        """The loss of a model that knows nothing, in nats a token."""
        return math.log(self.vocab_size)

    @property
    def samples(self) -> int:
        return sum(ref.samples for ref in self.shards)

    @property
    def shard_sizes(self) -> tuple[int, ...]:
        """Samples in each shard: what `barnraise.contract.assign.Assignment` walks."""
        return tuple(ref.samples for ref in self.shards)

    def to_bytes(self) -> bytes:
        """Canonical JSON: the blob whose hash the charter pins."""
        return self.model_dump_json().encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> DataIndex:
        """Read an index from bytes that may be hostile. Raises MalformedBlob."""
        if len(data) > MAX_INDEX_BYTES:
            raise MalformedBlob(f"a data index of {len(data)} bytes is above the limit", fix=_FIX)
        try:
            return cls.model_validate_json(data)
        except ValidationError as invalid:
            first = invalid.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "the whole"
            raise MalformedBlob(f"a data index is malformed: {where}: {first['msg']}", fix=_FIX) from None
