"""Heavy work beside the rounds: programs of ours at a low priority, whose failure is an outcome."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass

NICENESS = 10
"""A round's fold and close come first."""
TIMEOUT_SECONDS = 3600.0


@dataclass(frozen=True)
class Ended:
    said: str
    """The last line of its output."""


@dataclass(frozen=True)
class Failed:
    reason: str


async def run_child(module: str, *arguments: object) -> Ended | Failed:
    """Run `python -m module` to its end. It is killed when the caller is cancelled."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *map(str, arguments),
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        out, err = await asyncio.wait_for(process.communicate(), TIMEOUT_SECONDS)
    except asyncio.TimeoutError:
        return Failed(f"it took more than {TIMEOUT_SECONDS / 60:.0f} minutes")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        return Failed(f"{module} ended with status {process.returncode}: {_last_line(err)[:300]}")
    return Ended(_last_line(out))


def _last_line(output: bytes) -> str:
    return output.decode(errors="replace").strip().rpartition("\n")[2]
