"""A limit of this process's memory while it runs code of others, such as chat templates."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_STATUS = Path("/proc/self/status")
_KILOBYTE = 1024


@contextmanager
def limited_memory(more: int) -> Iterator[None]:
    """Raise MemoryError within, where the data of this process grows by more than `more` bytes. A library in
    another language, such as tokenizers, may end the process instead.

    It holds for all threads, and for child programs until they call `lift_memory_limit`. On systems without
    /proc there is no limit: macOS has none that counts what is mapped.
    """
    before = resource.getrlimit(resource.RLIMIT_DATA)
    limits = [limit for limit in before if limit != resource.RLIM_INFINITY]
    if (used := _data_bytes()) is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (min([used + more, *limits]), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def lift_memory_limit() -> None:
    """In a child program: have what the system permits."""
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def _data_bytes() -> int | None:
    """What counts against the limit: private memory that may be written."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    found = (line.split()[1] for line in lines if line.startswith("VmData:"))
    return _KILOBYTE * int(next(found, "0"))
