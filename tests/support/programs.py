"""Real programs for tests: processes whose output lines are events to wait for, with a deadline."""

from __future__ import annotations

import functools
import logging
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from barnraise.runtime.console import DEBUG_VARIABLE
from scripts.netns import Host

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 180.0
"""Seconds that a test waits for an event, on a busy machine."""
INVITE = r"(barnraise://\S+)'"
"""The line of a coordinator that volunteers can join."""


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
        on_line: Callable[[str | None], None] = lambda _: None,
        root: Path = ROOT,
    ) -> None:
        """on_line: called with each line of output, and with None at its end, in another thread.

        root: where the packages are.
        """
        command = [*python, "-c", f"from {module} import main; main()", *arguments]
        self.name = name
        self.lines: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._on_line = on_line
        self.process = subprocess.Popen(
            on.command(*command) if on is not None else command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
            cwd=root,
            start_new_session=True,
            env=os.environ
            | {"PYTHONPATH": os.pathsep.join([str(root), str(root / "proto")]), "PYTHONUNBUFFERED": "1"},
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

    def interrupt(self, expected: int = 0, deadline: float = DEADLINE) -> None:
        """Send SIGINT to the process group, as a terminal does on Ctrl-C.

        Fails with the whole output where the program ended before or ends with another status.
        """
        ended = self.process.poll()
        assert ended is None, f"{self.name} ended by itself with {ended}. Its output:\n{self.output}"
        os.killpg(self.process.pid, signal.SIGINT)
        status = self.wait(deadline)
        assert status == expected, f"{self.name} ended with {status}. Its output:\n{self.output}"

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
                self._on_line(line)
        self._lines.put(None)
        self._on_line(None)


class Stage:
    """A folder with a run.toml, and the programs that work on it."""

    def __init__(self, folder: Path, on_line: Callable[[str, str | None], None] = lambda *_: None) -> None:
        """on_line: called with the name of a program and each line of its output, as in `Program`."""
        self.folder = folder
        self._on_line = on_line
        self._programs: list[Program] = []

    def serve(
        self,
        port: int = 0,
        p2p_port: int = 0,
        *,
        on: Host | None = None,
        python: Sequence[str] = (sys.executable,),
        root: Path = ROOT,
    ) -> tuple[Program, str]:
        """A coordinator and its invite."""
        program = self.launch(port, p2p_port, on=on, python=python, root=root)
        return program, program.wait_for(INVITE)[1]

    def launch(
        self,
        port: int = 0,
        p2p_port: int = 0,
        *,
        more: Sequence[str] = (),
        module: str = "coordinator.cli.main",
        on: Host | None = None,
        python: Sequence[str] = (sys.executable,),
        root: Path = ROOT,
    ) -> Program:
        """A coordinator that is starting. more: options. module: has its `main`."""
        return self.start(
            "coordinator", module, "serve", str(self.folder / "run.toml"),
            "--host", on.address if on is not None else "127.0.0.1",
            "--port", str(port), "--p2p-port", str(p2p_port), "--http-port", "0",
            "--data-dir", str(self.folder / "coordinator"),
            "--cache-dir", str(self.folder / "cache"), *more, on=on, python=python, root=root,
        )  # fmt: skip

    def join(
        self,
        name: str,
        invite: str,
        *more: str,
        module: str = "peer.cli.main",
        on: Host | None = None,
        python: Sequence[str] = (sys.executable,),
        root: Path = ROOT,
    ) -> Program:
        listen = "0.0.0.0" if on is not None else "127.0.0.1"
        return self.start(
            name, module, "join", invite, "--name", name, "--credit", "--device", "cpu",
            "--threads", "1",
            "--base", str(self.folder / "model"), "--data-dir", str(self.folder / name),
            "--cache-dir", str(self.folder / "cache"), "--listen", f"/ip4/{listen}/tcp/0", *more, on=on,
            python=python, root=root,
        )  # fmt: skip

    def follow(
        self, name: str, invite: str, *, on: Host | None = None, python: Sequence[str] = (sys.executable,)
    ) -> Program:
        """A closer, or another follower, that is starting."""
        host = on.address if on is not None else "127.0.0.1"
        return self.start(
            name, "coordinator.cli.main", "follow", invite, "--data-dir", str(self.folder / name),
            "--host", host, "--port", "0", "--p2p-port", "0", "--http-port", "0", on=on, python=python,
        )  # fmt: skip

    def start(
        self,
        name: str,
        module: str,
        *arguments: str,
        on: Host | None = None,
        python: Sequence[str] = (sys.executable,),
        root: Path = ROOT,
    ) -> Program:
        """`main` of a module as a process, on this machine or on a host of a small internet.

        python: the command of the interpreter. root: where the packages are.
        """
        on_line = functools.partial(self._on_line, name)
        program = Program(name, module, *arguments, on=on, python=python, on_line=on_line, root=root)
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


def daemons(program: Program) -> list[psutil.Process]:
    """The libp2p daemons of a running program."""
    return [child for child in psutil.Process(program.process.pid).children() if child.name() == "p2pd"]


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on, held together so that they differ."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
