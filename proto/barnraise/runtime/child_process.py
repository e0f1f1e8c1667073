"""Runs heavy work in child programs at low priority. A failure is returned, not raised."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass

from barnraise.runtime.child_failures import ChildDied, ChildFailure, ChildTimedOut

NICENESS = 10
"""The priority that such a program gives itself (`os.nice`): folding and closing a round come first."""
CHILD_TIMEOUT_SECONDS = 3600.0
"""Longest that a program may take by default: evaluating or converting a large model on a slow machine."""


@dataclass(frozen=True)
class ChildDone:
    """The program ended with status 0."""

    last_line: str
    """Of its output."""


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


def _last_line(output: bytes) -> str:
    return output.decode(errors="replace").strip().rpartition("\n")[2]
