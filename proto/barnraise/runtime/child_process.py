"""Runs heavy work in child programs at low priority. A failure is returned, not raised."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

from barnraise.runtime.child_failures import ChildDied, ChildFailure, ChildTimedOut, ChildTooLarge

NICENESS = 10
"""The priority that such a program gives itself (`os.nice`): folding and closing a round come first."""


@dataclass(frozen=True)
class ChildTiming:
    """Intervals in seconds."""

    end: float = 3600.0
    """Longest a program may take by default: evaluating or converting a large model on a slow machine."""
    memory_poll: float = 0.2
    """Between two looks at its memory: it allocates a gigabyte in about that time."""


CHILD_TIMING = ChildTiming()


@dataclass(frozen=True)
class ChildDone:
    """The program ended with status 0."""

    last_line: str
    """Of its output."""


async def run_child(
    module: str, *arguments: object, timeout: float = CHILD_TIMING.end, memory: int | None = None
) -> ChildDone | ChildFailure:
    """Run `python -m module` to its end, at most `timeout` seconds. Cancelling the call kills it.

    memory: bytes of its own above which it is killed; None: no limit. Pages of files that it maps do not
    count, since the system can drop them.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *map(str, arguments),
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    too_large = asyncio.Event()
    try:
        with _watched(process, memory, too_large):
            out, err = await asyncio.wait_for(process.communicate(), timeout)
    except asyncio.TimeoutError:
        return ChildTimedOut(timeout)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if too_large.is_set():
        return ChildTooLarge(memory or 0)
    if process.returncode:
        return ChildDied(module, process.returncode, _last_line(err)[:300])
    return ChildDone(_last_line(out))


@contextmanager
def _watched(
    process: asyncio.subprocess.Process, memory: int | None, too_large: asyncio.Event
) -> Iterator[None]:
    if memory is None:
        yield
        return
    watching = asyncio.create_task(_watch(process, memory, too_large))
    try:
        yield
    finally:
        watching.cancel()


async def _watch(process: asyncio.subprocess.Process, memory: int, too_large: asyncio.Event) -> None:
    """Kill the process and set `too_large` when it has more than `memory` bytes."""
    try:
        seen = psutil.Process(process.pid)
        while _own_bytes(seen) <= memory:  # noqa: ASYNC110 (memory raises no event)
            await asyncio.sleep(CHILD_TIMING.memory_poll)
        too_large.set()
        process.kill()
    except (psutil.NoSuchProcess, ProcessLookupError):
        return  # it has ended


def _own_bytes(process: psutil.Process) -> int:
    used = process.memory_info()
    return int(used.rss - getattr(used, "shared", 0))


def _last_line(output: bytes) -> str:
    return output.decode(errors="replace").strip().rpartition("\n")[2]
