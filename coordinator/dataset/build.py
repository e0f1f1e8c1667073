"""Tokenizes and packs a run's dataset once, into shards that peers fetch by their hash."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from barnraise.contract.shards import BYTES_PER_TOKEN, DataIndex, Sample, ShardRef, pack_shard
from barnraise.contract.spec import RunSpec
from barnraise.core.errors import DatasetError, ModelUnavailable
from barnraise.core.ids import BlobHash
from coordinator.dataset.pack import Document, held_out_below, pack, shuffled, split
from coordinator.dataset.records import Record
from coordinator.dataset.render import Renderer
from coordinator.dataset.render_counts import RenderCounts, refuse_unrendered
from coordinator.dataset.row_counts import RowCounts, refuse_bad_rows
from coordinator.dataset.sources.read import read
from coordinator.dataset.too_long import documents
from coordinator.reasons.dataset import (
    BuildStep,
    BuiltDataset,
    DatasetBuilt,
    DatasetReport,
    NothingHeldOut,
    ReadingDataset,
    RecordsTokenized,
)

SHARD_BYTES = 1 << 20
"""A shard is closed at about this size, …"""
SHARD_SAMPLES = 256
"""… or at this many samples."""
SHUFFLE_TOKENS = 8 << 20
"""Tokens that are shuffled at a time: about 100 MB of memory."""
_REPORT_EVERY = 5_000
_BATCH = 250
"""Records that are tokenized at a time."""
_FIX_MODEL = "Give a base model whose folder holds a complete tokenizer, with tokenizer.json."

Put = Callable[[bytes], BlobHash]
"""Stores bytes under their SHA-256 and returns it."""
Progress = Callable[[BuildStep], None]


@dataclass(frozen=True)
class Survey:
    """The result of the first pass over a dataset: its size, and what is held out."""

    records: int
    held_out_records: int
    bound: int
    """Records whose digest is below this are held out."""
    report: DatasetReport


@dataclass
class _Counter:
    """Counts tokens on their way into the shards."""

    tokens: int = 0
    trained: int = 0
    refs: list[ShardRef] = field(default_factory=list)

    def count(self, pieces: Iterable[Document]) -> Iterator[Document]:
        for piece in pieces:
            self.tokens += len(piece.input_ids)
            self.trained += int(piece.trained.sum())
            yield piece


def survey(spec: RunSpec) -> Survey:
    """Read all records once, for their digests. Raises DatasetError."""
    counts = RowCounts()
    digests = [record.digest(spec.seed) for record in read(spec.data, counts)]
    report = counts.report()
    if spec.data.bad_rows == "refuse":
        refuse_bad_rows(report)
    if not digests:
        raise DatasetError(f"the dataset {spec.data.title} is empty", fix="Give it at least one record.")
    bound = held_out_below(spec.data.held_out, min(digests), max(digests))
    return Survey(len(digests), sum(digest < bound for digest in digests), bound, report)


def build(spec: RunSpec, tokenizer_folder: Path, put: Put, progress: Progress) -> BuiltDataset:
    """Read, render, pack and store a run's dataset; the same input gives the same hashes.

    put: gets the bytes of every shard. Raises DatasetError for data that cannot be trained on,
    ModelUnavailable for a tokenizer that cannot be read.
    """
    renderer, vocab_size = _renderer(tokenizer_folder, spec.data.chat_template)
    progress(ReadingDataset(spec.data.title))
    found = survey(spec)
    counts = RenderCounts()
    previews: list[str] = []

    def rendered(*, held_out: bool) -> Iterator[Document]:
        records = _records(spec, found.bound, held_out=held_out)
        for document in _documents(spec, renderer, records, vocab_size, counts, progress):
            if not previews:
                previews.append(renderer.preview(document))
            yield document

    index = _store(spec, rendered(held_out=False), renderer, vocab_size, put)
    if not index.shards:
        raise DatasetError(
            f"no token of {spec.data.title} can be trained on",
            fix="Give it longer texts, or raise `sequence_length` under [data] in run.toml.",
        )
    held_out = _store(spec, rendered(held_out=True), renderer, vocab_size, put)
    if spec.data.held_out > 0 and not held_out.shards:
        progress(NothingHeldOut())
    progress(DatasetBuilt(found.records, index.samples, index.trained_tokens))
    return BuiltDataset(
        index=index,
        held_out=held_out,
        preview=previews[0],
        records=found.records,
        held_out_records=found.held_out_records,
        chat_template=renderer.template,
        report=found.report,
        rendering=counts.report(),
    )


def _records(spec: RunSpec, bound: int, *, held_out: bool) -> Iterator[Record]:
    return (record for record in read(spec.data) if (record.digest(spec.seed) < bound) == held_out)


def _documents(
    spec: RunSpec,
    renderer: Renderer,
    records: Iterable[Record],
    vocab_size: int,
    counts: RenderCounts,
    progress: Progress,
) -> Iterator[Document]:
    remaining = iter(records)
    done = 0
    while batch := list(islice(remaining, _BATCH)):
        for document in documents(renderer, batch, spec.data.sequence_length, spec.data.too_long, counts):
            if int(document.input_ids.max()) >= vocab_size:
                raise ModelUnavailable(
                    f"the tokenizer makes tokens that the model does not have (it has {vocab_size})",
                    fix=_FIX_MODEL,
                )
            yield document
        if spec.data.bad_rows == "refuse":
            refuse_unrendered(counts.report())
        done += len(batch)
        if done % _REPORT_EVERY == 0:
            progress(RecordsTokenized(done))


def _store(
    spec: RunSpec, documents: Iterable[Document], renderer: Renderer, vocab_size: int, put: Put
) -> DataIndex:
    length = spec.data.sequence_length
    counter = _Counter()
    pad = renderer.tokenizer.pad_token_id
    pad_id = renderer.tokenizer.eos_token_id if pad is None else pad
    samples = pack(counter.count(split(documents, length)), length, pad_id)
    for batch in _batches(shuffled(samples, spec.seed, max(1, SHUFFLE_TOKENS // length)), length):
        data = pack_shard(batch)
        put(data)
        counter.refs.append(ShardRef.of(data, len(batch)))
    return DataIndex(
        sequence_length=length,
        vocab_size=vocab_size,
        shards=tuple(counter.refs),
        tokens=counter.tokens,
        trained_tokens=counter.trained,
    )


def _batches(samples: Iterable[Sample], length: int) -> Iterator[list[Sample]]:
    size = min(SHARD_SAMPLES, max(1, SHARD_BYTES // (BYTES_PER_TOKEN * length)))
    batch: list[Sample] = []
    for sample in samples:
        batch.append(sample)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _renderer(folder: Path, chat_template: str | None) -> tuple[Renderer, int]:
    """The folder's tokenizer, and the number of tokens that the model knows."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ModelUnavailable(f"the tokenizer in {folder} cannot be read: {error}", fix=_FIX_MODEL) from None
    config = _table(folder / "config.json")
    texts = config.get("text_config", config)
    known = {tokenizer.eos_token_id}
    for table in (_table(folder / "generation_config.json"), config, texts):
        ends = table.get("eos_token_id")
        known |= {end for end in (ends if isinstance(ends, list) else [ends]) if isinstance(end, int)}
    embedded = texts.get("vocab_size", len(tokenizer))
    return Renderer(tokenizer, frozenset(known), chat_template), min(len(tokenizer), int(embedded))


def _table(path: Path) -> dict[str, Any]:
    """A JSON object, or an empty one where the model has no such file. Raises ModelUnavailable."""
    if not path.exists():
        return {}
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelUnavailable(f"{path} cannot be read: {error}", fix=_FIX_MODEL) from None
    if not isinstance(table, dict):
        raise ModelUnavailable(f"{path} is not a JSON object", fix=_FIX_MODEL)
    return table
