"""Standard output and error that never end a program: a display that cannot be written falls silent."""

from __future__ import annotations

import contextlib
import sys
from typing import Any, cast


class LastingStream:
    """A text or binary stream whose write errors are dropped: a closed pipe or terminal, a full disk.

    Each write tries again, since a disk may have space later. Everything else is the stream's own.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @property
    def buffer(self) -> LastingStream:
        """The binary stream below a text stream, which click writes to."""
        return LastingStream(self._stream.buffer)

    def write(self, data: str | bytes) -> int:
        """Write `data` if that is possible. Returns its length."""
        with contextlib.suppress(OSError, ValueError):  # ValueError: the stream is closed
            self._stream.write(data)
        return len(data)

    def flush(self) -> None:
        """Flush what can be written."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def isatty(self) -> bool:
        """Whether it is a terminal that is still there."""
        try:
            return bool(self._stream.isatty())
        except (OSError, ValueError):
            return False


def outlive_display() -> None:
    """Let this program continue where standard output or error cannot be written."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, LastingStream):
            setattr(sys, name, cast(Any, LastingStream(stream)))
