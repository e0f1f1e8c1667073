"""Programs on the hosts of a small internet: started, waited for, ended."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from scripts.demo_stage import DemoFailed, Program, Stage
from scripts.netns import Host

ROOT = Path(__file__).resolve().parents[3]
LOOK_SECONDS = 0.1
START_SECONDS = 600.0


@dataclass(frozen=True)
class Cpu:
    """CPU seconds so far."""

    all: float
    """Of the program and its libp2p daemon."""
    training: float
    """Of the steps."""

    def since(self, before: Cpu) -> Cpu:
        return Cpu(self.all - before.all, self.training - before.training)


def start(stage: Stage, host: Host, name: str, *command: str) -> Program:
    """A program on a host, with its log in the stage's folder."""
    log = stage.work / f"{name}.log"
    paths = os.pathsep.join([str(ROOT), str(ROOT / "proto")])
    with log.open("wb") as file:
        process = subprocess.Popen(
            host.command(sys.executable, *command),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
    program = Program(name, process, log, stage.work / name)
    stage.running.append(program)
    return program


def wait_for(program: Program, pattern: str, seconds: float = START_SECONDS) -> str:
    """What the log says in the pattern's group. Raises DemoFailed when the program ends or is too slow."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        alive = program.alive()
        if found := re.search(pattern, program.log.read_text(), re.MULTILINE):
            return found[1]
        if not alive:
            break
        time.sleep(LOOK_SECONDS)
    raise DemoFailed(f"{program.name} never said {pattern!r}:\n{program.log.read_text()[-3000:]}")


def cpu_of(volunteer: Program) -> Cpu:
    """Of a `scripts.benchmarks.uplink.timed_peer` that writes to `cpu_file`."""
    process, file = psutil.Process(volunteer.process.pid), cpu_file(volunteer.folder.parent, volunteer.name)
    spent = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return Cpu(
        all=sum(times.user + times.system for times in spent),
        training=float(file.read_text()) if file.exists() else 0.0,
    )


def cpu_file(work: Path, name: str) -> Path:
    return work / f"{name}.cpu"
