"""Shapes of base models and sizes of datasets, for tests of estimates."""

from __future__ import annotations

import math

from barnraise.contract.shards import BYTES_PER_TOKEN, DataIndex, ShardRef
from barnraise.models.memory_estimate import ModelShape
from coordinator.reasons.dataset import BuiltDataset, DatasetReport, RenderReport


def shape_of(parameters: int, *, width: int | None = None, vocabulary: int = 50_000) -> ModelShape:
    """The shape of a LLaMA-like model of that size: layers × width near 1.5 root(parameters)."""
    blocks = 30
    return ModelShape(
        parameters=parameters,
        products=parameters,
        head=0,
        largest=0,
        vocabulary=vocabulary,
        width=width or round(1.5 * math.sqrt(parameters) / blocks),
        blocks=blocks,
        half=False,
    )


def index_of(samples: int, tokens: int, length: int = 512) -> DataIndex:
    """An index of that many samples; half of the tokens are trained on."""
    sizes = [64] * (samples // 64) + [samples % 64] * (samples % 64 > 0)
    refs = tuple(
        ShardRef(hash=f"{number:064x}", samples=size, size=size * length * BYTES_PER_TOKEN)
        for number, size in enumerate(sizes)
    )
    return DataIndex(
        sequence_length=length, vocab_size=9, shards=refs, tokens=tokens, trained_tokens=tokens // 2
    )


def built_dataset(
    index: DataIndex, held_out: DataIndex, *, records: int, held_out_records: int
) -> BuiltDataset:
    """A dataset in which nothing is wrong. records: those that are trained on."""
    every = records + held_out_records
    return BuiltDataset(
        index=index,
        held_out=held_out,
        records=every,
        held_out_records=held_out_records,
        chat_template="{{ template }}",
        report=DatasetReport(every, every, 0, (), 0, 0, 0, 0, (), (), ()),
        rendering=RenderReport("tokenizer", (), (), 0, 0, 0, 0, 0, 0, ()),
        preview="is it ⟦four⟧?",
        longest_document=12,
        documents=records,
    )
