"""The programs of the demo or of a benchmark: started, observed through their logs, and stopped."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from barnraise.contract.status import RunStatus

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = Path(sys.executable).parent
"""The folder of the installed programs."""
POLL_SECONDS = 0.1
START_SECONDS = 600.0
"""Until a program has loaded what it needs."""


class DemoFailed(Exception):
    """A program failed, or a promise that the demo checks did not hold."""


@dataclass
class Program:
    """One process, with its log and its data folder."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    folder: Path

    def alive(self) -> bool:
        return self.process.poll() is None

    def interrupt(self, seconds: float) -> int:
        """Send Ctrl-C; returns the exit status."""
        if self.alive():
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(seconds)


@dataclass
class Stage:
    """The running programs, and what was observed of the run."""

    work: Path
    console: Console
    running: list[Program] = field(default_factory=list)
    status: RunStatus | None = None
    notes: list[str] = field(default_factory=list)

    def start(self, name: str, *command: str) -> Program:
        """Start an installed program, `coordinator` or `peer`."""
        return self.launch(name, [str(PROGRAMS / command[0]), *command[1:]])

    def launch(self, name: str, command: Sequence[str], **environment: str) -> Program:
        """Start any command at the root of the repository; its output goes to a log in `work`."""
        log = self.work / f"{name}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=os.environ | {"PYTHONUNBUFFERED": "1"} | environment,
                start_new_session=True,  # Ctrl-C reaches this process alone, which stops the others
            )
        program = Program(name, process, log, self.work / name)
        self.running.append(program)
        return program

    def volunteer(self, name: str, invite: str, *more: str) -> Program:
        """Start `peer join` with one thread."""
        return self.start(
            name, "peer", "join", invite, "--name", name, "--credit", "--threads", "1", "--micro-batch", "1",
            "--listen", "/ip4/127.0.0.1/tcp/0", "--data-dir", str(self.work / name), *more,
        )  # fmt: skip

    def named(self, name: str) -> Program:
        """A program that was started."""
        return next(program for program in self.running if program.name == name)

    def stop_all(self) -> None:
        """Stop all programs, the last one first; kill those that do not exit within 15 s."""
        for program in reversed(self.running):
            if program.alive():
                program.process.terminate()
        for program in reversed(self.running):
            try:
                program.process.wait(15)
            except subprocess.TimeoutExpired:
                program.process.kill()

    def note(self, text: str) -> None:
        """Show an event of the run."""
        self.notes.append(text)
        if not self.console.is_terminal:
            self.console.print(f"  {text}")


@contextmanager
def running(work: Path) -> Iterator[Stage]:
    """A stage that reports on stderr. Its programs are stopped at the end of the context."""
    stage = Stage(work, Console(stderr=True, highlight=False))
    try:
        yield stage
    finally:
        stage.stop_all()


def serve(stage: Stage, seconds: float = 300) -> tuple[str, int]:
    """Start the coordinator on free ports; returns its invite and its gRPC port.

    seconds: to wait for the invite, after which DemoFailed is raised.
    """
    coordinator = stage.start(
        "coordinator", "coordinator", "serve", str(stage.work / "run.toml"), "--host", "127.0.0.1",
        "--port", "0", "--p2p-port", "0", "--http-port", "0",
        "--data-dir", str(stage.work / "coordinator"),
    )  # fmt: skip
    if found := printed(coordinator, r"barnraise://127\.0\.0\.1:(\d+)/[^']*", seconds):
        return found[0], int(found[1])
    raise DemoFailed(f"the coordinator did not start:\n{coordinator.log.read_text()}")


def wait_for(program: Program, pattern: str, seconds: float = START_SECONDS) -> str:
    """The group of `pattern` in the log. Raises DemoFailed when the program ends or takes too long."""
    if found := printed(program, pattern, seconds):
        return found[1]
    raise DemoFailed(f"{program.name} did not print {pattern!r}:\n{program.log.read_text()[-3000:]}")


def printed(program: Program, pattern: str, seconds: float) -> re.Match[str] | None:
    """The first match in the log; None where the program ends without one, or takes too long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        alive = program.alive()
        if found := re.search(pattern, program.log.read_text(), re.MULTILINE):
            return found
        if not alive:
            break
        time.sleep(POLL_SECONDS)
    return None


def run(*command: str | Path) -> str:
    """Run a program to its end; returns its output. Raises DemoFailed when it fails."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise DemoFailed(f"{Path(command[0]).name} {command[1]} failed:\n{done.stderr[-2000:]}")
    return done.stdout
