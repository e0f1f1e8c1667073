"""Heavy work in programs of their own at a low priority, whose failure is an outcome."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass

from typing_extensions import assert_never

from barnraise.core.reason import Reason

NICENESS = 10
"""The priority that such a program gives itself (`os.nice`): folding and closing a round come first."""
CHILD_TIMEOUT_SECONDS = 3600.0
"""Longest that a program may take by default: evaluating or converting a large model on a slow machine."""


@dataclass(frozen=True)
class ChildDone:
    """The program ended with status 0."""

    last_line: str
    """Of its output."""


@dataclass(frozen=True)
class ChildTimedOut(Reason):
    """The program took too long and was killed."""

    seconds: float


@dataclass(frozen=True)
class ChildDied(Reason):
    """The program ended with another status than 0."""

    module: str
    status: int
    """Its exit status; minus the number of a signal that ended it."""
    last_line: str
    """Of its standard error."""


ChildFailure = ChildTimedOut | ChildDied


async def run_child(
    module: str, *arguments: object, timeout: float = CHILD_TIMEOUT_SECONDS
) -> ChildDone | ChildFailure:
    """Run `python -m module` to its end, at most `timeout` seconds. Cancelling the call kills it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *map(str, arguments),
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        out, err = await asyncio.wait_for(process.communicate(), timeout)
    except asyncio.TimeoutError:
        return ChildTimedOut(timeout)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        return ChildDied(module, process.returncode, _last_line(err)[:300])
    return ChildDone(_last_line(out))


def child_message(reason: ChildFailure) -> str:
    """Renders a failure, for the messages of both programs."""
    match reason:
        case ChildTimedOut(seconds):
            return f"it took more than {seconds / 60:.0f} minutes"
        case ChildDied(module, status, last_line):
            return f"{module} ended with status {status}: {last_line}"
        case _:
            assert_never(reason)


def _last_line(output: bytes) -> str:
    return output.decode(errors="replace").strip().rpartition("\n")[2]
