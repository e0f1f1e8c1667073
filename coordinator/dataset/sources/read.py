"""Reads records from files, folders of files, and datasets on the Hugging Face Hub."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from barnraise.contract.spec import DataSpec
from barnraise.core.errors import DatasetError
from coordinator.dataset.records import Record, Text, record_of

_EXTRA = "Run `pip install '.[data]'` in Barnraise's checkout."


def read(spec: DataSpec) -> Iterator[Record]:
    """The records of a dataset, always in the same order; blank texts are left out.

    Raises DatasetError, naming file and line, for what cannot be read or understood.
    """
    if spec.source.startswith("hub:"):
        rows: Iterator[Record] = _hub(spec)
    else:
        path = Path(spec.source).expanduser()
        rows = (record for file in _files(path) for record in _READERS[file.suffix.lower()](file, spec))
    return (record for record in rows if not isinstance(record, Text) or record.text.strip())


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


def _jsonl(path: Path, spec: DataSpec) -> Iterator[Record]:
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    where = f"{path}:{number}"
                    yield record_of(_json(line, where), spec.text_field, where)
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None


def _json(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise DatasetError(
            f"{where} is not valid JSON: {error}", fix="Write one JSON object per line."
        ) from None


def _text(path: Path, spec: DataSpec) -> Iterator[Record]:
    """A text file is one document."""
    try:
        yield Text(path.read_text(encoding="utf-8-sig"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None


def _parquet(path: Path, spec: DataSpec) -> Iterator[Record]:
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
                    yield record_of(row, spec.text_field, f"{path} row {number}")
    except (OSError, pyarrow.ArrowException) as error:
        raise _unreadable(path, error) from None


def _hub(spec: DataSpec) -> Iterator[Record]:
    try:
        from datasets import load_dataset
    except ImportError:
        raise DatasetError(f"{spec.source} needs `datasets`, which is not installed", fix=_EXTRA) from None
    name = spec.source.removeprefix("hub:")
    try:
        rows = load_dataset(name, revision=spec.revision, split=spec.split)
    except (OSError, ValueError, RuntimeError) as error:  # not found, no network, no such split, a script
        raise DatasetError(
            f"{spec.source} cannot be loaded: {error}",
            fix="Check its name, `revision` and `split` under [data] in run.toml, and the connection.",
        ) from None
    for number, row in enumerate(rows, start=1):
        yield record_of(row, spec.text_field, f"{spec.source} row {number}")


def _unreadable(path: Path, error: Exception) -> DatasetError:
    return DatasetError(f"cannot read {path}: {error}", fix="Files must be readable, and text in UTF-8.")


_READERS: dict[str, Callable[[Path, DataSpec], Iterator[Record]]] = {
    ".jsonl": _jsonl,
    ".md": _text,
    ".parquet": _parquet,
    ".txt": _text,
}
