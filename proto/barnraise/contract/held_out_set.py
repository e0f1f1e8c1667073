"""Which held-out samples a checkpoint is evaluated on: the same ones on every machine. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from barnraise.contract.shards import DataIndex, Sample, parse_shard
from barnraise.core.ids import BlobHash


def held_out_samples(
    index: DataIndex, get: Callable[[BlobHash], bytes], limit: int | None
) -> Iterator[Sample]:
    """The first samples, up to the one that reaches `limit` trained tokens; all if `limit` is None.

    get: returns a shard by its hash, and is called only for shards that are needed. Raises MalformedBlob.
    """
    tokens = 0
    for ref in index.shards:
        for sample in parse_shard(get(ref.blob), index.sequence_length, index.vocab_size):
            yield sample
            tokens += sample.trained_tokens
            if limit is not None and tokens >= limit:
                return
