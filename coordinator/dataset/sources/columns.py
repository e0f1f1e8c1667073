"""Reads Parquet, and the Arrow files that `datasets.save_to_disk` writes, in batches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from barnraise.core.errors import DatasetError
from coordinator.dataset.rows.field_values import shown
from coordinator.dataset.rows.row import BadRow, Row
from coordinator.dataset.sources.encoding import NOT_UTF8

EXTRA = "Run `pip install '.[data]'` in Barnraise's checkout."
_INDEXED = b"ARROW1"
_BATCH = 256
"""Rows in memory at a time."""


def parquet_rows(path: Path, name: str) -> Iterator[Row | BadRow]:
    """Raises DatasetError for a file that cannot be read."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise DatasetError(f"{name} needs pyarrow, which is not installed", fix=EXTRA) from None
    try:
        with parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
            yield from _rows(file.iter_batches(batch_size=_BATCH), name)
    except (OSError, pyarrow.ArrowException) as error:
        raise _unreadable(name, error) from None


def arrow_rows(path: Path, name: str) -> Iterator[Row | BadRow]:
    """Raises DatasetError for a file that cannot be read."""
    try:
        import pyarrow
    except ImportError:
        raise DatasetError(f"{name} needs pyarrow, which is not installed", fix=EXTRA) from None
    try:
        with pyarrow.memory_map(str(path)) as source, _batches(source) as batches:
            yield from _rows(
                (batch.slice(start, _BATCH) for batch in batches for start in range(0, len(batch), _BATCH)),
                name,
            )
    except (OSError, pyarrow.ArrowException) as error:
        raise _unreadable(name, error) from None


@contextmanager
def _batches(source: Any) -> Iterator[Iterator[Any]]:
    """The batches of an Arrow file, which is a stream, or begins with a mark and ends with an index."""
    from pyarrow import ipc

    if source.read_at(len(_INDEXED), 0) == _INDEXED:
        with ipc.open_file(source) as file:
            yield (file.get_batch(number) for number in range(file.num_record_batches))
    else:
        with ipc.open_stream(source) as stream:
            yield stream


def _rows(batches: Any, name: str) -> Iterator[Row | BadRow]:
    number = 0
    for batch in batches:
        _check_names(batch.schema.names, name)
        try:
            values = batch.to_pylist()
        except UnicodeDecodeError:
            values = [_value(batch, index) for index in range(len(batch))]
        for value in values:
            number += 1
            where = f"{name} row {number}"
            if value is None:
                yield BadRow(where, "its text is not UTF-8", NOT_UTF8)
            else:
                yield Row({key: _without_nulls(field) for key, field in value.items()}, where)


def _check_names(names: list[str], name: str) -> None:
    twice = [each for each in names if names.count(each) > 1]
    if twice:
        raise DatasetError(f"{name} has the column `{shown(twice[0])}` twice", fix="Rename one of the two.")


def _without_nulls(value: Any) -> Any:
    """A value without the nulls inside its objects: a column's objects have the fields of all."""
    if isinstance(value, dict):
        return {key: _without_nulls(field) for key, field in value.items() if field is not None}
    return [_without_nulls(part) for part in value] if isinstance(value, list) else value


def _value(batch: Any, index: int) -> Any:
    try:
        return batch.slice(index, 1).to_pylist()[0]
    except UnicodeDecodeError:
        return None


def _unreadable(name: str, error: Exception) -> DatasetError:
    return DatasetError(
        f"cannot read {name}: {str(error).splitlines()[0]}",
        fix="Copy or download it once more: it is truncated or damaged.",
    )
