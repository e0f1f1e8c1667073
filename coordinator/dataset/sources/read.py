"""Reads rows from files, folders of files, and datasets on the Hugging Face Hub."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from barnraise.contract.spec import DataSpec, SourceSpec
from barnraise.core.errors import DatasetError
from coordinator.dataset.records import Record
from coordinator.dataset.row_counts import RowCounts, records
from coordinator.dataset.rows import BadRow, Row

_EXTRA = "Run `pip install '.[data]'` in Barnraise's checkout."


def read(spec: DataSpec, counts: RowCounts | None = None) -> Iterator[Record]:
    """The records of a dataset, always in the same order; rows that give none are counted in `counts`.

    Raises DatasetError for a source that cannot be read.
    """
    counts = RowCounts() if counts is None else counts
    for source in spec.all_sources:
        yield from records(rows(source), source.text_field, counts)


def rows(source: SourceSpec) -> Iterator[Row | BadRow]:
    """The rows of one source, always in the same order.

    Raises DatasetError for a source that cannot be read; a row that cannot be parsed is a BadRow.
    """
    if source.source.startswith("hub:"):
        yield from _hub(source)
        return
    for file in _files(Path(source.source).expanduser()):
        yield from _READERS[file.suffix.lower()](file)


def _files(path: Path) -> list[Path]:
    known = ", ".join(sorted(_READERS))
    if path.is_dir():
        files = [file for _, file in sorted(_below(path))]
        if not files:
            raise DatasetError(
                f"the folder {path} holds none of: {known}", fix="Put files of those kinds there."
            )
        return files
    if not path.is_file():
        raise DatasetError(
            f"the dataset {path} does not exist", fix="Correct `source` under [data] in run.toml."
        )
    if path.suffix.lower() not in _READERS:
        raise DatasetError(f"{path} is of an unknown kind", fix=f"Use one of: {known}.")
    return [path]


def _below(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Files of known kinds, each after its path in the folder."""
    for file in folder.rglob("*"):
        name = file.relative_to(folder)
        hidden = any(part.startswith(".") for part in name.parts)  # an editor's or git's
        if not hidden and file.suffix.lower() in _READERS and file.is_file():
            yield name, file


def _jsonl(path: Path) -> Iterator[Row | BadRow]:
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _json(line, f"{path}:{number}")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None


def _json(line: str, where: str) -> Row | BadRow:
    try:
        return Row(json.loads(line), where)
    except (ValueError, RecursionError) as error:
        return BadRow(where, f"it is not valid JSON: {error}", "Write one JSON object per line.")


def _text(path: Path) -> Iterator[Row | BadRow]:
    """A text file is one document."""
    try:
        yield Row(path.read_text(encoding="utf-8-sig"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None


def _parquet(path: Path) -> Iterator[Row | BadRow]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise DatasetError(f"{path} needs pyarrow, which is not installed", fix=_EXTRA) from None
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=256):
                for row in batch.to_pylist():
                    number += 1
                    yield Row(row, f"{path} row {number}")
    except (OSError, pyarrow.ArrowException) as error:
        raise _unreadable(path, error) from None


def _hub(spec: SourceSpec) -> Iterator[Row | BadRow]:
    try:
        from datasets import load_dataset
    except ImportError:
        raise DatasetError(f"{spec.source} needs `datasets`, which is not installed", fix=_EXTRA) from None
    name = spec.source.removeprefix("hub:")
    try:
        found = load_dataset(name, revision=spec.revision, split=spec.split)
    except (OSError, ValueError, RuntimeError) as error:  # not found, no network, no such split, a script
        raise DatasetError(
            f"{spec.source} cannot be loaded: {error}",
            fix="Check its name, `revision` and `split` under [data] in run.toml, and the connection.",
        ) from None
    for number, row in enumerate(found, start=1):
        yield Row(row, f"{spec.source} row {number}")


def _unreadable(path: Path, error: Exception) -> DatasetError:
    return DatasetError(f"cannot read {path}: {error}", fix="Files must be readable, and text in UTF-8.")


_READERS: dict[str, Callable[[Path], Iterator[Row | BadRow]]] = {
    ".jsonl": _jsonl,
    ".md": _text,
    ".parquet": _parquet,
    ".txt": _text,
}
