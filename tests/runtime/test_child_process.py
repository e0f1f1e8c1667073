"""Heavy work in programs of their own: what they say, how they fail, and that they end with us."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from barnraise.runtime import child_process as child
from barnraise.runtime.child_process import Ended, Failed, run_child

DEADLINE = 60.0
"""Seconds within which a program has to start and to end, on a busy machine."""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The source of a module `heavy` that children can run."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "heavy.py"


def test_the_last_line_is_what_it_says(program: Path) -> None:
    program.write_text("import sys; print('noise'); print(' '.join(sys.argv[1:]))")
    assert asyncio.run(run_child("heavy", 1, "two", Path("three"))) == Ended("1 two three")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise ValueError('no such tensor')", "heavy ended with status 1: ValueError: no such tensor"),
        ("import sys; print('of no use. Free some.', file=sys.stderr); sys.exit(3)", "status 3: of no use."),
        ("import os; os.kill(os.getpid(), 9)", "heavy ended with status -9"),
    ],
)
def test_a_failure_is_an_outcome_with_its_reason(program: Path, source: str, reason: str) -> None:
    program.write_text(source)
    outcome = asyncio.run(run_child("heavy"))
    assert isinstance(outcome, Failed)
    assert reason in outcome.reason


def test_a_module_that_is_not_there_is_an_outcome_too() -> None:
    outcome = asyncio.run(run_child("coordinator.no_such_program"))
    assert isinstance(outcome, Failed)
    assert "No module named" in outcome.reason


HANGING = """
import socket, sys, threading
line = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
threading.Event().wait()
"""


@pytest.mark.parametrize("how", ["cancelled", "too slow"])
def test_it_is_killed_when_nobody_waits_any_more(
    program: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    program.write_text(HANGING)

    async def act() -> Failed | Ended | None:
        began: asyncio.Future[asyncio.StreamReader] = asyncio.get_running_loop().create_future()

        async def hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            began.set_result(reader)
            await gone.wait()
            writer.close()

        gone = asyncio.Event()
        async with await asyncio.start_server(hello, "127.0.0.1", 0) as server:
            task = asyncio.create_task(run_child("heavy", server.sockets[0].getsockname()[1]))
            if how == "too slow":
                outcome = await asyncio.wait_for(task, DEADLINE)
                gone.set()
                return outcome
            line = await asyncio.wait_for(began, DEADLINE)
            task.cancel()
            assert await asyncio.wait_for(line.read(), DEADLINE) == b"", "its end of the line is closed"
            await asyncio.wait([task])
            gone.set()
            assert task.cancelled()
            return None

    if how == "too slow":
        monkeypatch.setattr(child, "TIMEOUT_SECONDS", 0.0)
    outcome = asyncio.run(act())
    assert outcome is None or outcome == Failed("it took more than 0 minutes")
