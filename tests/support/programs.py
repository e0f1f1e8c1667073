"""Real programs for tests: processes whose output lines are events to wait for, with a deadline."""

from __future__ import annotations

import logging
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from barnraise.runtime.console import DEBUG_VARIABLE
from scripts.netns import Host

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 180.0
"""Seconds that a test waits for an event, on a busy machine."""


@contextmanager
def restored_logging() -> Iterator[None]:
    """The command lines configure logging for the whole process: undo that afterwards."""
    names = ("", "barnraise", "bitsandbytes", "coordinator", "peer", "hivemind")
    loggers = [logging.getLogger(name) for name in names]
    found = [(logger, logger.level, logger.handlers[:]) for logger in loggers]
    try:
        yield
    finally:
        os.environ.pop(DEBUG_VARIABLE, None)
        for logger, level, handlers in found:
            logger.setLevel(level)
            logger.handlers[:] = handlers


class Program:
    """A process and its output, line by line."""

    def __init__(
        self,
        name: str,
        module: str,
        *arguments: str,
        on: Host | None = None,
        python: Sequence[str] = (sys.executable,),
    ) -> None:
        command = [*python, "-c", f"from {module} import main; main()", *arguments]
        self.name = name
        self.lines: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        self.process = subprocess.Popen(
            on.command(*command) if on is not None else command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
            cwd=ROOT,
            start_new_session=True,
            env=os.environ
            | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "proto")]), "PYTHONUNBUFFERED": "1"},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for(self, pattern: str, deadline: float = DEADLINE) -> re.Match[str]:
        """The next line that matches. Fails with the whole output when there is none in time."""
        until = time.monotonic() + deadline
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                line = None
            if line is None:
                raise AssertionError(f"{self.name} never printed {pattern!r}. Its output:\n{self.output}")
            if found := re.search(pattern, line):
                return found

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def states(self) -> dict[int, str]:
        """The state (shortened hash) that this program printed as the base of each round."""
        printed = re.findall(r"^round (\d+): .* state (\w{8})\)", self.output, re.MULTILINE)
        folded = re.findall(r"round (\d+) folded: .* state (\w{8})", self.output)
        return {int(round): state for round, state in printed} | {int(r) + 1: state for r, state in folded}

    def interrupt(self, deadline: float = DEADLINE) -> int:
        """Send SIGINT to the process group, as a terminal does on Ctrl-C. Returns the exit status."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.wait(deadline)

    def wait(self, deadline: float = DEADLINE) -> int:
        status = self.process.wait(deadline)
        self._reader.join(deadline)
        return status

    def kill(self) -> None:
        self.process.kill()
        self.wait()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as output:
            for line in output:
                self.lines.append(line)
                self._lines.put(line)
        self._lines.put(None)


class Stage:
    """A folder with a run.toml, and the programs that work on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._programs: list[Program] = []

    def serve(self, port: int = 0, p2p_port: int = 0, *, on: Host | None = None) -> tuple[Program, str]:
        """A coordinator and its invite."""
        program = self.start(
            "coordinator", "coordinator.cli", "serve", str(self.folder / "run.toml"),
            "--host", on.address if on is not None else "127.0.0.1",
            "--port", str(port), "--p2p-port", str(p2p_port), "--http-port", "0",
            "--data-dir", str(self.folder / "coordinator"),
            "--cache-dir", str(self.folder / "cache"), on=on,
        )  # fmt: skip
        return program, program.wait_for(r"(barnraise://\S+)'")[1]

    def join(
        self,
        name: str,
        invite: str,
        *more: str,
        on: Host | None = None,
        python: Sequence[str] = (sys.executable,),
    ) -> Program:
        listen = "0.0.0.0" if on is not None else "127.0.0.1"
        return self.start(
            name, "peer.cli.main", "join", invite, "--name", name, "--device", "cpu", "--threads", "1",
            "--base", str(self.folder / "model"), "--data-dir", str(self.folder / name),
            "--cache-dir", str(self.folder / "cache"), "--listen", f"/ip4/{listen}/tcp/0", *more, on=on,
            python=python,
        )  # fmt: skip

    def start(
        self,
        name: str,
        module: str,
        *arguments: str,
        on: Host | None = None,
        python: Sequence[str] = (sys.executable,),
    ) -> Program:
        """`main` of a module as a process, on this machine or on a host of a small internet.

        python: the command of the interpreter.
        """
        program = Program(name, module, *arguments, on=on, python=python)
        self._programs.append(program)
        return program

    def end(self) -> None:
        for program in self._programs:
            if program.process.poll() is None:
                program.kill()


@contextmanager
def stage(folder: Path) -> Iterator[Stage]:
    """Kills what a test started when the test ends."""
    made = Stage(folder)
    try:
        yield made
    finally:
        made.end()
