"""Runs a real coordinator below a crowd of light volunteers, and measures what it uses and how it answers."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from coordinator.grpc_service import ask_status
from coordinator.timing import TIMING
from scripts.benchmarks.load.usage import Usage, inside, make_group, pin
from scripts.benchmarks.tiny_run import write_run
from scripts.stage import PROGRAMS, DemoFailed, Program, Stage, printed, running
from tests.support.tiny import make_tiny_model

DAEMONS = 20
PATIENT = replace(TIMING, status=120.0)
JOINS_PER_SECOND, RENEWALS_PER_SECOND = 5.0, 5.0
SENTENCE = "Many hands raise a barn in a day, and the neighbours eat together when it stands.\n"


@dataclass(frozen=True)
class LoadResult:
    """What the measured time with a number of volunteers cost."""

    volunteers: int
    present: int
    """Volunteers that the coordinator counted as live at the end."""
    heartbeats: int
    """That they sent."""
    seconds: float
    cpu: float
    """Seconds of a core that the coordinator and its libp2p daemon used."""
    daemon_cpu: float
    """The daemon's part of it."""
    memory: int
    """Resident bytes of both at the end."""
    latencies: dict[str, list[float]]
    """Seconds of each call, by kind."""
    failures: list[str]

    def row(self) -> str:
        a_minute = 60 / self.seconds
        times = " | ".join(
            f"{_percentile(self.latencies.get(kind, []), 50) * 1e3:.0f} / "
            f"{_percentile(self.latencies.get(kind, []), 99) * 1e3:.0f}"
            for kind in ("join", "renew")
        )
        return (
            f"| {self.volunteers} | {self.present} | {self.heartbeats * a_minute:.0f}"
            f" | {self.cpu * a_minute:.1f}"
            f" | {self.daemon_cpu * a_minute:.1f} | {self.memory / 1e6:.0f} | {times} | {len(self.failures)}"
            f" | {os.getloadavg()[0]:.1f} |"
        )


def measure_load(
    counts: Sequence[int], seconds: float, core: int | None, profile: Path | None = None
) -> Iterator[str]:
    """A table, a row for each number of volunteers.

    core: the coordinator runs on this core alone, and nothing else that is started here. The program that
    times the calls is on another one. Both have the highest priority: other work there counts little.
    profile: a file for cProfile's figures of the coordinator.
    """
    yield (
        f"{seconds:g} s, {DAEMONS} libp2p daemons, {JOINS_PER_SECOND:g} joins of new keys and"
        f" {RENEWALS_PER_SECOND:g} renewals a second\n"
    )
    yield (
        "| volunteers | counted live | heartbeats a minute | CPU s a minute | of which the daemon"
        " | memory, MB | join, ms (median / p99) | renew, ms (median / p99) | failed calls | load average |\n"
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    )
    for count in counts:
        yield _measure(count, seconds, core, profile).row()


def _measure(volunteers: int, seconds: float, core: int | None, profile: Path | None) -> LoadResult:
    if core is not None:
        pin(core)
    group = make_group(f"barnraise-load-{os.getpid()}")
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as stage:
        coordinator, invite, address = _serve(stage, group, core, profile)
        admissions, results = stage.work / "admissions", stage.work / "calls.json"
        calls = [sys.executable, "-m", "scripts.benchmarks.load.caller", invite, str(admissions),
                 str(volunteers), str(JOINS_PER_SECOND), str(RENEWALS_PER_SECOND), str(results)]  # fmt: skip
        caller = stage.launch("caller", inside(None, None, calls, first=core is not None))
        clients = stage.launch(
            "clients", [sys.executable, "-m", "scripts.benchmarks.load.clients", invite, str(volunteers),
                        str(DAEMONS), str(admissions), str(stage.work / "nodes")]
        )  # fmt: skip
        _wait(lambda: _present(address) >= volunteers, 600, coordinator, caller, clients)
        before, began, wall = Usage.of(coordinator.process.pid), time.monotonic(), time.time()
        daemon, sent = Usage.of_children(coordinator.process.pid), _sent(clients)
        time.sleep(seconds)
        after, took = Usage.of(coordinator.process.pid), time.monotonic() - began
        daemon_cpu = Usage.of_children(coordinator.process.pid).cpu - daemon.cpu
        sent = _sent(clients) - sent
        present = _present(address)
        time.sleep(3)
        found = json.loads(results.read_text(encoding="utf-8"))
        if profile is not None:
            coordinator.interrupt(60)
    if group is not None:
        group.rmdir()
    kinds: dict[str, list[float]] = {}
    for kind, ended, call in found["calls"]:
        if wall <= ended <= wall + took:
            kinds.setdefault(kind, []).append(call)
    return LoadResult(
        volunteers, present, sent, took, after.cpu - before.cpu, daemon_cpu, after.memory, kinds,
        found["failures"],
    )  # fmt: skip


def _percentile(values: list[float], percent: int) -> float:
    """The nearest-rank percentile; NaN of nothing."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)] if ordered else float("nan")


def _serve(
    stage: Stage, group: Path | None, core: int | None, profile: Path | None
) -> tuple[Program, str, str]:
    """Start the coordinator; returns it, its invite and its address."""
    model = make_tiny_model(stage.work / "model")
    data = stage.work / "data.txt"
    data.write_text(SENTENCE * 2000, encoding="utf-8")
    run = write_run(stage.work, "load", model, data, "open", seconds=600, grace=60, steps=4)
    program = [str(PROGRAMS / "coordinator")]
    if profile is not None:
        program = [sys.executable, "-m", "cProfile", "-o", str(profile), *program]
    command = [
        *program, "serve", str(run), "--host", "127.0.0.1", "--port", "0",
        "--p2p-port", "0", "--http-port", "0", "--data-dir", str(stage.work / "coordinator"),
    ]  # fmt: skip
    coordinator = stage.launch("coordinator", inside(group, core, command, first=core is not None))
    if found := printed(coordinator, r"barnraise://(127\.0\.0\.1:\d+)/[^']*", 300):
        return coordinator, found[0], found[1]
    raise DemoFailed(f"the coordinator did not start:\n{coordinator.log.read_text()}")


def _present(address: str) -> int:
    """Volunteers that `coordinator status` lists."""
    return len(asyncio.run(ask_status(address, PATIENT)).peers)


def _sent(clients: Program) -> int:
    """Heartbeats that the clients have sent."""
    found = re.findall(r"(\d+) heartbeats sent", clients.log.read_text())
    return int(found[-1]) if found else 0


def _wait(condition: Callable[[], bool], seconds: float, *programs: Program) -> None:
    """Until the condition holds. Raises DemoFailed when one of the programs ends, and after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        for program in programs:
            if not program.alive():
                raise DemoFailed(f"{program.name} ended:\n{program.log.read_text()[-3000:]}")
        if time.monotonic() > deadline:
            raise DemoFailed(f"not all volunteers are live:\n{programs[-1].log.read_text()[-2000:]}")
        time.sleep(10)
