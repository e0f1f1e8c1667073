"""What a program and its child processes use, and a control group of its own to run it in."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

GROUPS = (Path("/sys/fs/cgroup/cpuacct"), Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))
"""Where Linux shows control groups, of version 1 and 2."""
_ENTER = """
import os, sys
core, group, first, *command = sys.argv[1:]
if core:
    os.sched_setaffinity(0, {int(core)})
if first:
    os.setpriority(os.PRIO_PROCESS, 0, -20)
if group:
    with open(group + "/cgroup.procs", "w") as file:
        file.write(str(os.getpid()))
os.execv(command[0], command)
"""


@dataclass(frozen=True)
class Usage:
    """What was used up to one moment."""

    cpu: float
    """Seconds of a core."""
    memory: int
    """Resident bytes."""

    @classmethod
    def of(cls, process: int) -> Usage:
        """Of a process and its children."""
        first = psutil.Process(process)
        return cls.of_all([first, *first.children(recursive=True)])

    @classmethod
    def of_children(cls, process: int) -> Usage:
        """Of the children of a process."""
        return cls.of_all(psutil.Process(process).children(recursive=True))

    @classmethod
    def of_all(cls, family: Sequence[psutil.Process]) -> Usage:
        """Of all these processes together."""
        times = [member.cpu_times() for member in family]
        return cls(sum(each.user + each.system for each in times), sum(m.memory_info().rss for m in family))


def make_group(name: str) -> Path | None:
    """A control group, below the root group; None where this user or system has none."""
    for root in GROUPS:
        try:
            (root / name).mkdir()
        except OSError:
            continue
        if (root / name / "cgroup.procs").exists():
            return root / name
        (root / name).rmdir()
    return None


def inside(group: Path | None, core: int | None, command: Sequence[str], *, first: bool = False) -> list[str]:
    """The command that runs `command` in a group, on one core. first: before the machine's other programs."""
    where = ["" if core is None else str(core), "" if group is None else str(group), "first" if first else ""]
    return [sys.executable, "-c", _ENTER, *where, *command]


def pin(core: int) -> None:
    """Keep this process, and those that it starts from now on, off a core."""
    os.sched_setaffinity(0, set(range(os.cpu_count() or 1)) - {core})
