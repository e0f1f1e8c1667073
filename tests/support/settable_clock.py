"""A wall clock that a test sets while a program runs, as a person or network time does.

As a program it is an interpreter: `python -m tests.support.settable_clock FILE -c CODE ARGS` runs CODE with
`time.time` and `time.time_ns` ahead by the seconds in FILE. All other clocks are the machine's.
(libfaketime 0.9.10 cannot do that: where it leaves the monotonic clock alone, Python's `time.sleep` fails.)
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import grpc.aio._utils as grpc_utils


class SettableClock:
    """The test's side."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set(0)

    def set(self, ahead: int) -> None:
        """ahead: seconds before the machine's clock."""
        part = self._file.with_suffix(".part")
        part.write_text(str(ahead))
        part.replace(self._file)

    @property
    def python(self) -> Sequence[str]:
        """The command of an interpreter whose programs have this clock."""
        return (sys.executable, "-m", "tests.support.settable_clock", str(self._file))


def _main() -> None:
    file, (option, code, *arguments) = Path(sys.argv[1]), sys.argv[2:]
    assert option == "-c"
    machine, machine_time = time.time_ns, time.time

    def time_ns() -> int:
        return machine() + int(file.read_text()) * 10**9

    time.time_ns = time_ns
    time.time = lambda: time_ns() / 1e9  # hivemind copies it when it is imported
    vars(grpc_utils)["time"] = SimpleNamespace(
        time=machine_time
    )  # its core reads the machine's clock for a deadline
    sys.argv = ["-c", *arguments]
    exec(code, {"__name__": "__main__"})


if __name__ == "__main__":
    _main()
