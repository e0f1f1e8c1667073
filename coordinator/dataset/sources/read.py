"""Reads the rows of a source: of a file, a folder, or a dataset on the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from barnraise.contract.spec import DataSpec, SourceSpec
from barnraise.core.errors import DatasetError
from coordinator.dataset.records import Record
from coordinator.dataset.rows.counts import RowCounts, records
from coordinator.dataset.rows.row import AnyRow
from coordinator.dataset.sources.columns import arrow_rows, parquet_rows
from coordinator.dataset.sources.compression import FAILURES
from coordinator.dataset.sources.delimited import delimited
from coordinator.dataset.sources.documents import Cutting
from coordinator.dataset.sources.encoding import open_text, refuse_json, refuse_web_page
from coordinator.dataset.sources.folder import cannot_read, list_folder, read_card
from coordinator.dataset.sources.hub import find_commit
from coordinator.dataset.sources.json_document import HEAD, is_document, json_document
from coordinator.dataset.sources.json_lines import json_lines
from coordinator.dataset.sources.kinds import COMPRESSIONS, Kind, holds_text, kind_of
from coordinator.dataset.sources.layout import Layout, Request, plan
from coordinator.dataset.sources.locate import HUB, find_path, hub_name
from coordinator.dataset.sources.splits import TRAIN, wanted_splits
from coordinator.dataset.sources.text import text_documents
from coordinator.reasons.source_files import FileGroup, SkippedFiles, SkipReason, SourceFiles

_EXAMPLES = 5
"""Names of files that a report shows of each group."""


@dataclass(frozen=True)
class OpenedSource:
    """A source whose files are known and on this machine."""

    spec: SourceSpec
    """With the commit as `revision`, for a dataset of the Hub."""
    files: tuple[tuple[Path, str], ...]
    """Each file to read, in order, and its name in messages."""
    report: SourceFiles
    """What is read and what is not."""

    def rows(self, cutting: Cutting) -> Iterator[AnyRow]:
        """All rows, always in the same order; one that cannot be parsed is a BadRow.

        cutting: how plain text is cut. Raises DatasetError for a file that cannot be read.
        """
        for path, name in self.files:
            yield from read_file(path, name, self.spec, cutting)

    def records(self, cutting: Cutting, counts: RowCounts) -> Iterator[Record]:
        """The records that the rows hold; those without any are counted in `counts`. Raises DatasetError."""
        return records(self.rows(cutting), self.spec.text_field, counts)


def open_source(source: SourceSpec) -> OpenedSource:
    """Find the files of a source, and fetch those of the Hub. Raises DatasetError."""
    return _open_hub(source) if source.source.startswith(HUB) else _open_local(source)


def open_sources(data: DataSpec) -> tuple[OpenedSource, ...]:
    """All sources of a run, in order. Raises DatasetError."""
    return tuple(open_source(source) for source in data.all_sources)


def find_data(data: DataSpec) -> DataSpec:
    """`data` with the commits of its Hub datasets as revisions.

    Raises DatasetError for a source that does not exist.
    """
    return data.with_sources(tuple(_pinned(source) for source in data.all_sources))


def read(spec: DataSpec, counts: RowCounts | None = None) -> Iterator[Record]:
    """The records of a dataset, always in the same order; rows that give none are counted in `counts`.

    Raises DatasetError for a source that cannot be read.
    """
    counts = RowCounts() if counts is None else counts
    for opened in open_sources(spec):
        yield from opened.records(Cutting.of(spec), counts)


def repetitions(digest: int, weight: float) -> int:
    """How often a record is trained on in an epoch.

    digest: of the record (`Record.digest`). Its last 64 bits decide about the fraction of the weight; whether
    the record is held out depends on its first ones.
    """
    whole = int(weight)
    return whole + ((digest & (1 << 64) - 1) < (weight - whole) * (1 << 64))


def read_file(path: Path, name: str, source: SourceSpec, cutting: Cutting) -> Iterator[AnyRow]:
    """The rows of one file. Raises DatasetError for one that cannot be read."""
    kind = kind_of(path.name)
    try:
        if kind == "parquet":
            yield from parquet_rows(path, name)
        elif kind == "arrow":
            yield from arrow_rows(path, name)
        else:
            yield from _text_rows(path, name, kind, source, cutting)
    except FAILURES as error:
        raise cannot_read(path, error) from None


def _text_rows(
    path: Path, name: str, kind: Kind | None, source: SourceSpec, cutting: Cutting
) -> Iterator[AnyRow]:
    with open_text(path) as stream:
        if not holds_text(kind):
            refuse_web_page(stream, path)
        if kind == "json" and _holds_document(path):
            yield from json_document(stream, name, source.text_field, wanted_splits(source.split))
        elif kind == "json":
            yield from json_lines(stream, name)
        elif kind in ("csv", "tsv"):
            yield from delimited(stream, name, "\t" if kind == "tsv" else None)
        else:
            refuse_json(stream, path)
            yield from text_documents(stream, name, cutting, markdown=kind == "markdown")


def _holds_document(path: Path) -> bool:
    with open_text(path) as stream:
        return is_document(stream.read(HEAD))


def _find_local(source: SourceSpec) -> Path:
    path = find_path(source.source)
    if source.revision is not None:
        raise DatasetError(
            f"{path} is no dataset of the Hub, and has no revisions", fix="Remove `revision` from run.toml."
        )
    return path


def _open_local(source: SourceSpec) -> OpenedSource:
    path = _find_local(source)
    if path.is_dir():
        listed = list_folder(path)
        layout = plan(listed.names, read_card(path / "README.md"), _request(source, str(path)))
        layout.skipped.update(listed.skipped)
        return _opened(source, path, str(path), layout)
    if source.config is not None:
        raise DatasetError(f"{path} is a file, without configurations", fix="Remove `config` from run.toml.")
    if source.split != TRAIN and not path.name.lower().endswith(
        (".json", *(".json" + c for c in COMPRESSIONS))
    ):
        raise DatasetError(f"{path} is a file, without splits", fix="Remove `split` from run.toml.")
    taken = FileGroup(1, (path.name,))
    return OpenedSource(source, ((path, str(path)),), SourceFiles(source.source, taken, ()))


def _pinned(source: SourceSpec) -> SourceSpec:
    if not source.source.startswith(HUB):
        _find_local(source)
        return source
    commit = find_commit(hub_name(source.source), source.revision).commit
    return source.model_copy(update={"revision": commit})


def _open_hub(source: SourceSpec) -> OpenedSource:
    found = find_commit(hub_name(source.source), source.revision)
    layout = plan(found.names, found.card(), _request(source, source.source))
    folder = found.fetch(tuple(layout.taken))
    return _opened(source.model_copy(update={"revision": found.commit}), folder, source.source, layout)


def _request(source: SourceSpec, where: str) -> Request:
    return Request(where, source.config, source.split)


def _opened(source: SourceSpec, folder: Path, where: str, layout: Layout) -> OpenedSource:
    files = tuple((folder / name, f"{where}/{name}") for name in layout.taken)
    report = SourceFiles(source.source, _group(layout.taken), _skipped(layout.skipped))
    return OpenedSource(source, files, report)


def _skipped(skipped: dict[str, SkipReason]) -> tuple[SkippedFiles, ...]:
    reasons = list(dict.fromkeys(skipped.values()))
    return tuple(
        SkippedFiles(reason, _group(sorted(name for name, each in skipped.items() if each == reason)))
        for reason in reasons
    )


def _group(names: list[str]) -> FileGroup:
    return FileGroup(len(names), tuple(names[:_EXAMPLES]))
