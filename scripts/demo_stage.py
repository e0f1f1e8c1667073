"""The programs of a demo or a bench on this machine: started, watched by their logs, and ended."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from barnraise.contract.status import RunStatus

PROGRAMS = Path(sys.executable).parent


class DemoFailed(Exception):
    """Something that the demo is there to show did not hold."""


@dataclass
class Program:
    """One process of the demo, with its log."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    folder: Path

    def alive(self) -> bool:
        return self.process.poll() is None

    def interrupt(self, seconds: float) -> int:
        """Ctrl-C, and what it exits with."""
        if self.alive():
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(seconds)


@dataclass
class Stage:
    """What runs, and what has been seen."""

    work: Path
    say: Console
    running: list[Program] = field(default_factory=list)
    status: RunStatus | None = None
    notes: list[str] = field(default_factory=list)

    def start(self, name: str, *command: str) -> Program:
        log = self.work / f"{name}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [str(PROGRAMS / command[0]), *command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
                start_new_session=True,  # Ctrl-C is ours to hand on
            )
        program = Program(name, process, log, self.work / name)
        self.running.append(program)
        return program

    def volunteer(self, name: str, invite: str, *more: str) -> Program:
        return self.start(
            name, "peer", "join", invite, "--name", name, "--threads", "1", "--micro-batch", "1",
            "--listen", "/ip4/127.0.0.1/tcp/0", "--data-dir", str(self.work / name), *more,
        )  # fmt: skip

    def stop_all(self) -> None:
        for program in reversed(self.running):
            if program.alive():
                program.process.terminate()
        for program in reversed(self.running):
            try:
                program.process.wait(15)
            except subprocess.TimeoutExpired:
                program.process.kill()

    def note(self, text: str) -> None:
        self.notes.append(text)
        if not self.say.is_terminal:
            self.say.print(f"  {text}")


@contextmanager
def running(work: Path) -> Iterator[Stage]:
    """A stage that says what it does on stderr. Whatever runs on it is stopped at the end."""
    stage = Stage(work, Console(stderr=True, highlight=False))
    try:
        yield stage
    finally:
        stage.stop_all()


def serve(stage: Stage) -> tuple[str, int]:
    """Start the coordinator on free ports and wait for its invite."""
    coordinator = stage.start(
        "coordinator", "coordinator", "serve", str(stage.work / "run.toml"), "--host", "127.0.0.1",
        "--port", "0", "--p2p-port", "0", "--http-port", "0",
        "--data-dir", str(stage.work / "coordinator"),
    )  # fmt: skip
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and coordinator.alive():
        if found := re.search(r"barnraise://127\.0\.0\.1:(\d+)/[^']*", coordinator.log.read_text()):
            return found[0], int(found[1])
        time.sleep(0.2)
    raise DemoFailed(f"the coordinator did not start:\n{coordinator.log.read_text()}")


def run(*command: str | Path) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise DemoFailed(f"{Path(command[0]).name} {command[1]} failed:\n{done.stderr[-2000:]}")
    return done.stdout
