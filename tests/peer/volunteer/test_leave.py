"""Ctrl-C and a closed terminal: once to leave cleanly, Ctrl-C twice to stop at once."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = """\
import asyncio, os, signal, sys
from peer.volunteer.node import leave_on_signals

async def main(numbers):
    leaving = leave_on_signals()
    for number in numbers:
        os.kill(os.getpid(), number)
    await asyncio.wait_for(leaving.wait(), 30)
    if numbers == [signal.SIGINT, signal.SIGINT]:
        await asyncio.Event().wait()  # for ever, unless the second one ends it
    await asyncio.sleep(0)  # handlers run

asyncio.run(main([int(number) for number in sys.argv[1:]]))
"""


def status_after(*signals: int, ignored: int | None = None) -> int:
    def prepare() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run below `nohup`
        if ignored is not None:
            signal.signal(ignored, signal.SIG_IGN)

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, map(int, signals))],
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}"},
        timeout=120,
        check=False,
        preexec_fn=prepare,
    )
    return done.returncode


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_asks_to_leave(number: signal.Signals) -> None:
    assert status_after(number) == 0


def test_the_second_signal_stops_at_once() -> None:
    assert status_after(signal.SIGINT, signal.SIGINT) == 128 + signal.SIGINT


def test_a_closed_terminal_that_is_reported_twice_is_one_request() -> None:
    assert status_after(signal.SIGHUP, signal.SIGHUP) == 0


def test_nohup_holds() -> None:
    assert status_after(signal.SIGHUP, signal.SIGINT, ignored=signal.SIGHUP) == 0
