"""Reads lines of any length in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import BinaryIO

LONGEST = 64 << 20
"""Bytes of the longest row: a longer one is a bad row. It bounds the memory that reading takes."""
IS_TOO_LONG = f"is longer than {LONGEST >> 20} MiB"
CR_FIX = "Save it with the line ends of Unix or Windows: `tr '\\r' '\\n' < OLD > NEW`."
TOO_LONG_FIX = "Split it into shorter ones."


def numbered(stream: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """The lines with their line ends, each after its number from 1; None for one longer than `LONGEST`."""
    read = partial(stream.readline, LONGEST)
    for number, line in enumerate(iter(read, b""), start=1):
        if len(line) < LONGEST or line.endswith(b"\n"):
            yield number, line
        else:
            while line and not line.endswith(b"\n"):
                line = read()
            yield number, None
