"""Programs on the hosts of a simulated internet."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

from scripts.netns import Host
from scripts.stage import ROOT, Program, Stage

START_SECONDS = 600.0


@dataclass(frozen=True)
class Cpu:
    """CPU seconds since a program's start."""

    all: float
    """Of the program and its libp2p daemon."""
    training: float
    """Of the inner steps."""

    def since(self, before: Cpu) -> Cpu:
        return Cpu(self.all - before.all, self.training - before.training)


def start(stage: Stage, host: Host, name: str, *command: str) -> Program:
    """Start Python on a host, with its log in the stage's folder."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "proto")])
    return stage.launch(name, host.command(sys.executable, *command), PYTHONPATH=paths, OMP_NUM_THREADS="1")


def cpu_of(volunteer: Program) -> Cpu:
    """The CPU time of a volunteer that `timed_peer` runs, with its training time from `cpu_file`."""
    process, file = psutil.Process(volunteer.process.pid), cpu_file(volunteer.folder.parent, volunteer.name)
    spent = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return Cpu(
        all=sum(times.user + times.system for times in spent),
        training=float(file.read_text()) if file.exists() else 0.0,
    )


def cpu_file(work: Path, name: str) -> Path:
    return work / f"{name}.cpu"
