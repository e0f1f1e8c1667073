"""Encodes records to documents in batches, on all cores, in their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from coordinator.dataset.records import Record, Text

BATCH_CHARACTERS = 1 << 19
"""Characters that are tokenized at a time: about 15 MB of memory in tokenizers."""
WORKERS = 2
"""Batches in progress: one is rendered in Python while tokenizers encodes the other on all cores."""

T = TypeVar("T")
R = TypeVar("R")


def batches(records: Iterable[Record], characters: int = BATCH_CHARACTERS) -> Iterator[list[Record]]:
    """Records in batches of about `characters`; a longer record is a batch of its own."""
    batch: list[Record] = []
    size = 0
    for record in records:
        length = _characters(record)
        if batch and size + length > characters:
            yield batch
            batch, size = [], 0
        batch.append(record)
        size += length
    if batch:
        yield batch


def _characters(record: Record) -> int:
    if isinstance(record, Text):
        return len(record.text)
    return sum(len(message.content) + len(message.reasoning) for message in record.messages)


def in_parallel(function: Callable[[T], R], items: Iterable[T], workers: int = WORKERS) -> Iterator[R]:
    """The results of `function` in the order of the items, of which at most `workers` + 1 are in memory.

    The consumer runs in parallel with the calls. Their order of completion has no influence.
    """
    pool = ThreadPoolExecutor(workers, "encode")
    pending: deque[Future[R]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
