"""Packs documents into shards, stores them, and counts what they contain."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from barnraise.contract.shards import BYTES_PER_TOKEN, DataIndex, ShardRef, parse_shard, shard_bytes
from barnraise.core.ids import BlobHash
from coordinator.dataset.pack import WINDOW, Document, PackedSample, Packer, as_shard, shuffled, split

SHARD_BYTES = 1 << 20
"""A shard is closed at about this size, …"""
SHARD_SAMPLES = 256
"""… or at this many samples."""
SHUFFLE_TOKENS = 8 << 20
"""Tokens that are shuffled at a time: about 50 MB of memory."""

Put = Callable[[bytes], BlobHash]
"""Stores bytes under their SHA-256 and returns it."""


class ShardWriter:
    """One side of a dataset on its way into shards: what is trained on, or what is held out."""

    def __init__(
        self, length: int, vocab_size: int, pad_id: int, seed: int, put: Put, *, packing: bool = True
    ) -> None:
        """length: tokens of a sample. packing: whether several documents share one."""
        self._length, self._vocab_size, self._seed, self._put = length, vocab_size, seed, put
        self._packer = Packer(length, pad_id, WINDOW if packing else 0)
        self._shard_samples = min(SHARD_SAMPLES, max(1, SHARD_BYTES // (BYTES_PER_TOKEN * length)))
        self._block_samples = max(1, SHUFFLE_TOKENS // length)
        self._block: list[PackedSample] = []
        self._shuffled_samples = 0
        self._rest: list[PackedSample] = []
        self._shards: list[ShardRef] = []
        self._tokens = 0
        self._trained_tokens = 0
        self.first: PackedSample | None = None
        """The first sample that was completed."""
        self.pieces = 0
        """Documents in the samples; the parts of one that was cut count each."""
        self.longest = 0
        """Tokens of the longest document before it was cut."""

    def add(self, document: Document) -> None:
        """Pack one document."""
        self.longest = max(self.longest, len(document.input_ids))
        for piece in split(document, self._length):
            self.pieces += 1
            self._tokens += len(piece.input_ids)
            self._trained_tokens += piece.trained_tokens
            self._collect(self._packer.add(piece))

    def finish(self) -> DataIndex:
        """Store what is left, and return the index of all shards."""
        self._collect(self._packer.finish())
        self._shuffle()
        if self._rest:
            self._store(self._rest)
        return DataIndex(
            sequence_length=self._length,
            vocab_size=self._vocab_size,
            shards=tuple(self._shards),
            tokens=self._tokens,
            trained_tokens=self._trained_tokens,
        )

    def _collect(self, samples: Iterable[PackedSample]) -> None:
        for sample in samples:
            if self.first is None:
                self.first = sample
            self._block.append(sample)
            if len(self._block) == self._block_samples:
                self._shuffle()

    def _shuffle(self) -> None:
        """Store the shards of a block; what does not fill a shard waits for the next block."""
        samples = self._rest + shuffled(self._block, self._seed, self._shuffled_samples)
        self._shuffled_samples += len(self._block)
        self._block = []
        size = self._shard_samples
        whole = len(samples) - len(samples) % size
        for begin in range(0, whole, size):
            self._store(samples[begin : begin + size])
        self._rest = samples[whole:]

    def _store(self, samples: list[PackedSample]) -> None:
        data = shard_bytes(as_shard(samples))
        parse_shard(data, self._length, self._vocab_size)  # as each volunteer will
        self._shards.append(ShardRef(hash=self._put(data), samples=len(samples), size=len(data)))
