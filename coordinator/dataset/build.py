"""Tokenizes and packs a run's dataset once, into shards that peers fetch by their hash.

One pass: batches of records are read, rendered and encoded on all cores, divided into trained and held out,
packed, and stored. Memory is bounded by the batches in progress and two blocks that are shuffled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from barnraise.contract.shards import DataIndex
from barnraise.contract.spec import RunSpec
from barnraise.core.errors import DatasetError
from barnraise.runtime.memory_limit import limited_memory
from coordinator.dataset.held_out import HeldOutSplit
from coordinator.dataset.model_ids import ModelIds, check_length, check_tokens, open_tokenizer
from coordinator.dataset.pack import Document
from coordinator.dataset.preview import preview_sample
from coordinator.dataset.records import Record
from coordinator.dataset.rendering.counts import RenderCounts
from coordinator.dataset.rendering.encode import batches, in_parallel
from coordinator.dataset.rendering.render import Renderer
from coordinator.dataset.rendering.too_long import documents
from coordinator.dataset.rows.bad_rows import refuse
from coordinator.dataset.rows.counts import RowCounts
from coordinator.dataset.rows.row import BadRow
from coordinator.dataset.shard_writer import Put, ShardWriter
from coordinator.dataset.sources.documents import Cutting
from coordinator.dataset.sources.read import OpenedSource, open_sources, repetitions
from coordinator.reasons.dataset import (
    BeyondPositions,
    BuildStep,
    BuiltDataset,
    DatasetBuilt,
    NothingHeldOut,
    ReadingDataset,
    RecordsTokenized,
)
from coordinator.reasons.source_files import SourceFiles

BUILD_MEMORY = 4 * 2**30
"""Bytes that building a dataset may take: a base model's chat template can ask for any number."""
_REPORT_EVERY = 5_000

Progress = Callable[[BuildStep], None]


def build(spec: RunSpec, tokenizer_folder: Path, put: Put, progress: Progress) -> BuiltDataset:
    """Read, render, pack and store a run's dataset; the same input gives the same hashes on any machine.

    put: gets the bytes of every shard. Raises DatasetError for data that cannot be trained on,
    ModelUnusable for a tokenizer or a config that cannot be read.
    """
    with limited_memory(BUILD_MEMORY):
        tokenizer, ids = open_tokenizer(tokenizer_folder)
        return build_with(tokenizer, ids, spec, put, progress)


def build_with(tokenizer: Any, ids: ModelIds, spec: RunSpec, put: Put, progress: Progress) -> BuiltDataset:
    """Build with an open tokenizer, as `open_tokenizer` returns it. Raises DatasetError."""
    check_length(ids, spec.data.sequence_length)
    builder = _Builder(spec, Renderer(tokenizer, ids.ends, spec.data.chat_template), ids, put)
    progress(ReadingDataset(spec.data.title))
    return builder.build(open_sources(spec.data), progress)


@dataclass(frozen=True)
class _Encoded:
    """A batch of records, and the document of each; None where a record gives none."""

    records: Sequence[Record]
    digests: Sequence[int]
    documents: Sequence[Document | None]
    counts: RenderCounts
    weight: float
    """Of their source."""


class _Weighted(NamedTuple):
    """A document, and how often it is trained on."""

    document: Document | None
    times: int


class _Builder:
    """One pass over a dataset."""

    def __init__(self, spec: RunSpec, renderer: Renderer, ids: ModelIds, put: Put) -> None:
        self._spec, self._data, self._renderer, self._ids = spec, spec.data, renderer, ids
        self._rows, self._rendered = RowCounts(), RenderCounts()
        self._split: HeldOutSplit[_Weighted] = HeldOutSplit(spec.data.held_out)
        self._training, self._held_out = (
            ShardWriter(
                spec.data.sequence_length,
                ids.vocab_size,
                ids.pad_id,
                spec.seed,
                put,
                packing=spec.data.packing != "never",
            )
            for _ in range(2)
        )
        self._held_out_records = 0

    def build(self, sources: Sequence[OpenedSource], progress: Progress) -> BuiltDataset:
        self._read_all(sources, progress)
        self._refuse()
        index, held_out = self._training.finish(), self._held_out.finish()
        self._report(index, held_out, progress)
        return self._result(index, held_out, tuple(source.report for source in sources))

    def _read_all(self, sources: Sequence[OpenedSource], progress: Progress) -> None:
        reported = 0
        for encoded in in_parallel(lambda encode: encode(), self._batches(sources)):
            self._rendered.merge(encoded.counts)
            if not self._refused:
                self._pack(encoded)
            if self._rows.records - reported >= _REPORT_EVERY:
                reported = self._rows.records
                progress(RecordsTokenized(reported))
        for item, held_out in self._split.finish():
            self._route(item, held_out)

    def _batches(self, sources: Sequence[OpenedSource]) -> Iterator[Callable[[], _Encoded]]:
        """The work on each batch. Once a bad row is known, the rest is only read, to count all."""
        for source in sources:
            weight = source.spec.weight
            for batch in batches(source.records(Cutting.of(self._data), self._rows)):
                yield partial(self._skip if self._refused else self._encode, batch, weight)

    @property
    def _refused(self) -> bool:
        return self._data.bad_rows == "refuse" and bool(self._rows.bad or self._rendered.bad)

    def _encode(self, batch: Sequence[Record], weight: float) -> _Encoded:
        """Runs in a thread of its own."""
        data, counts = self._data, RenderCounts()
        found = documents(self._renderer, batch, data.sequence_length, data.too_long, counts)
        digests = [record.digest(self._spec.seed) for record in batch]
        return _Encoded(batch, digests, found, counts, weight)

    def _skip(self, batch: Sequence[Record], weight: float) -> _Encoded:
        counts = RenderCounts()
        for record in batch:
            if isinstance(found := self._renderer.text_of(record), BadRow):
                counts.add_bad(found)
        return _Encoded(batch, [], [], counts, weight)

    def _pack(self, encoded: _Encoded) -> None:
        together = zip(encoded.records, encoded.digests, encoded.documents, strict=True)
        for record, digest, document in together:
            if document is not None:
                check_tokens(self._renderer.tokenizer, self._ids, document, record.where)
            item = _Weighted(document, repetitions(digest, encoded.weight))
            for routed, held_out in self._split.add(digest, item):
                self._route(routed, held_out)

    def _route(self, item: _Weighted, held_out: bool) -> None:
        self._held_out_records += held_out
        document = item.document
        if document is None:
            return
        for _ in range(1 if held_out else item.times):
            (self._held_out if held_out else self._training).add(document)

    def _refuse(self) -> None:
        """Raise DatasetError for bad rows where the spec refuses them, and for a dataset without records."""
        rendering = self._rendered.report(self._renderer.template_origin)
        refuse(self._rows.report(), rendering, self._data.bad_rows, self._data.title)

    def _report(self, index: DataIndex, held_out: DataIndex, progress: Progress) -> None:
        if not index.shards:
            raise DatasetError(
                f"no token of {self._data.title} can be trained on",
                fix="Give it longer texts, or raise `sequence_length` under [data] in run.toml, or the "
                "`weight` of a source.",
            )
        if self._data.held_out > 0 and not held_out.shards:
            progress(NothingHeldOut())
        positions = self._ids.positions
        if positions is not None and self._longest > positions.count:
            progress(BeyondPositions(self._longest, positions.count))
        progress(DatasetBuilt(self._rows.records, index.samples, index.trained_tokens))

    @property
    def _has_template(self) -> bool:
        """Whether the base model or the maintainer gives a template, or a chat needed one."""
        chosen = self._data.chat_template is not None or bool(self._renderer.tokenizer.chat_template)
        return chosen or self._rendered.chats > 0

    @property
    def _longest(self) -> int:
        """Tokens of the longest piece that any sample contains."""
        return min(max(self._training.longest, self._held_out.longest), self._data.sequence_length)

    def _result(
        self, index: DataIndex, held_out: DataIndex, sources: tuple[SourceFiles, ...]
    ) -> BuiltDataset:
        sample = self._training.first
        assert sample is not None, "there is a shard"
        tokenizer = self._renderer.tokenizer
        rendering = self._rendered.report(self._renderer.template_origin)
        return BuiltDataset(
            index=index,
            held_out=held_out,
            records=self._rows.records,
            held_out_records=self._held_out_records,
            chat_template=self._renderer.template if self._has_template else None,
            report=self._rows.report(),
            rendering=rendering,
            preview=preview_sample(tokenizer, sample.as_sample()),
            longest_document=max(self._training.longest, self._held_out.longest),
            documents=self._training.pieces,
            sources=sources,
        )
