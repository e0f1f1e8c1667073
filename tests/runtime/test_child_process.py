"""Child programs: their output, their failures, and that they end with the caller."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from barnraise.runtime.child_failures import ChildDied, ChildFailure, ChildTimedOut
from barnraise.runtime.child_process import ChildDone, run_child

DEADLINE = 60.0
"""Seconds within which a program has to start and to end, on a busy machine."""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The source of a module `heavy` that children can run."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "heavy.py"


def test_the_last_line_of_output_is_returned(program: Path) -> None:
    program.write_text("import sys; print('noise'); print(' '.join(sys.argv[1:]))")
    assert asyncio.run(run_child("heavy", 1, "two", Path("three"))) == ChildDone("1 two three")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise ValueError('no such tensor')", ChildDied("heavy", 1, "ValueError: no such tensor")),
        ("import sys; print('of no use', file=sys.stderr); sys.exit(3)", ChildDied("heavy", 3, "of no use")),
        ("import os; os.kill(os.getpid(), 9)", ChildDied("heavy", -9, "")),
    ],
)
def test_a_failure_is_an_outcome_with_its_reason(program: Path, source: str, reason: ChildDied) -> None:
    program.write_text(source)
    assert asyncio.run(run_child("heavy")) == reason


def test_a_missing_module_is_an_outcome() -> None:
    outcome = asyncio.run(run_child("coordinator.no_such_program"))
    assert isinstance(outcome, ChildDied)
    assert "No module named" in outcome.last_line


HANGING = """
import socket, sys, threading
line = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
threading.Event().wait()
"""


@pytest.mark.parametrize("how", ["cancelled", "too slow"])
def test_cancelling_the_call_kills_the_program(program: Path, how: str) -> None:
    program.write_text(HANGING)

    async def act() -> ChildDone | ChildFailure | None:
        began: asyncio.Future[asyncio.StreamReader] = asyncio.get_running_loop().create_future()

        async def hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            began.set_result(reader)
            await gone.wait()
            writer.close()

        gone = asyncio.Event()
        async with await asyncio.start_server(hello, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            timeout = 0.0 if how == "too slow" else DEADLINE
            task = asyncio.create_task(run_child("heavy", port, timeout=timeout))
            if how == "too slow":
                outcome = await asyncio.wait_for(task, DEADLINE)
                gone.set()
                return outcome
            line = await asyncio.wait_for(began, DEADLINE)
            task.cancel()
            assert await asyncio.wait_for(line.read(), DEADLINE) == b"", "its end of the pipe is closed"
            await asyncio.wait([task])
            gone.set()
            assert task.cancelled()
            return None

    outcome = asyncio.run(act())
    assert outcome == (ChildTimedOut(0.0) if how == "too slow" else None)
