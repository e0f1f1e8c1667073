"""Ctrl-C: once to leave cleanly, twice to stop at once. In a separate process, which gets the signals."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = """\
import asyncio, os, signal, sys
from peer.volunteer.join import _leave_on_signals

async def main(signals):
    leaving = _leave_on_signals()
    for _ in range(signals):
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.wait_for(leaving.wait(), 30)
    if signals == 2:
        await asyncio.Event().wait()  # for ever, unless the second one ends it

asyncio.run(main(int(sys.argv[1])))
"""


def status_after(signals: int) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(signals)],
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}"},
        timeout=120,
        check=False,
    )
    return done.returncode


def test_the_first_signal_asks_to_leave() -> None:
    assert status_after(1) == 0


def test_the_second_signal_stops_at_once() -> None:
    assert status_after(2) == 128 + signal.SIGINT
