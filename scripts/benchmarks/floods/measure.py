"""`scripts/bench floods`: rounds of a real run under each flood, against those before and after it."""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from barnraise.contract.invite import parse_invite
from barnraise.core.errors import Unreachable
from peer.coordinator_client import connect
from scripts.benchmarks.floods.attacks import FLOODS
from scripts.benchmarks.tiny_run import write_run
from scripts.stage import DemoFailed, Program, Stage, running, serve
from tests.support.tiny import make_tiny_model, write_sums

VOLUNTEERS = 2
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Window:
    """What was seen in a time."""

    rate: float
    """Rounds a minute."""
    memory: tuple[int, ...]
    """Most resident bytes of the coordinator, its daemon, a volunteer and its daemon."""


def measure_floods(names: Sequence[str], seconds: float) -> Iterator[str]:
    """A table with a row for each flood. seconds: of each flood, and of the quiet times around it."""
    yield f"{VOLUNTEERS} volunteers, tiny model; {seconds:g} s of each flood, and between two\n"
    yield (
        "| flood | rounds a minute | before and after | ratio | coordinator, MB | its daemon, MB"
        " | volunteer, MB | its daemon, MB | load |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    )
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as stage:
        invite, programs = _start(stage)
        before = observe(invite, programs, seconds)
        for name in names:
            with Attack(stage, invite, name):
                during = observe(invite, programs, seconds)
            after = observe(invite, programs, seconds)
            yield _row(name, before, during, after)
            before = after


def _row(name: str, before: Window, during: Window, after: Window) -> str:
    quiet = statistics.mean((before.rate, after.rate))
    memory = " | ".join(
        f"{was / 1e6:.0f} → {now / 1e6:.0f}" for was, now in zip(before.memory, during.memory, strict=True)
    )
    return (
        f"| {FLOODS[name].what} | {during.rate:.1f} | {before.rate:.1f}, {after.rate:.1f}"
        f" | {during.rate / quiet:.2f} | {memory} | {os.getloadavg()[0]:.1f} |"
    )


def observe(invite: str, programs: Sequence[Program], seconds: float) -> Window:
    """Watch the run for a time."""
    return asyncio.run(_observe(invite, programs, seconds))


async def _observe(invite: str, programs: Sequence[Program], seconds: float) -> Window:
    changes: list[tuple[float, int]] = []
    memory = (0,) * (2 * len(programs))
    end = time.monotonic() + seconds
    async with connect(parse_invite(invite)) as api:
        while time.monotonic() < end:
            memory = tuple(map(max, memory, _memory(programs)))
            with suppress(Unreachable):
                round = (await api.head()).value.round
                if not changes or changes[-1][1] != round:
                    changes.append((time.monotonic(), round))
            await asyncio.sleep(POLL_SECONDS)
    if not changes:  # no answer at all
        return Window(0.0, memory)
    (first, low), (last, high) = changes[0], changes[-1]
    return Window(60 * (high - low) / max(last - first, seconds / 2), memory)


def _memory(programs: Sequence[Program]) -> list[int]:
    found = []
    for program in programs:
        process = psutil.Process(program.process.pid)
        daemons = [child for child in process.children() if child.name() == "p2pd"]
        found += [process.memory_info().rss, sum(each.memory_info().rss for each in daemons)]
    return found


def _start(stage: Stage) -> tuple[str, list[Program]]:
    """The invite, the coordinator and a volunteer. Raises DemoFailed."""
    model, data = make_tiny_model(stage.work / "model"), stage.work / "sums.jsonl"
    write_sums(data)
    write_run(
        stage.work, "floods", model, data, "open",
        seconds=4, grace=4, steps=2, min_contributions=VOLUNTEERS,
    )  # fmt: skip
    invite, _ = serve(stage)
    volunteers = [
        stage.volunteer(f"peer-{number}", invite, "--device", "cpu", "--base", str(model))
        for number in range(VOLUNTEERS)
    ]
    programs = [stage.running[0], volunteers[0]]
    deadline = time.monotonic() + 200
    while f"{VOLUNTEERS} contributions" not in programs[0].log.read_text():
        if time.monotonic() > deadline:
            raise DemoFailed(f"no round closed:\n{programs[0].log.read_text()[-2000:]}")
        time.sleep(1)
    return invite, programs


class Attack:
    """Runs a flood while the block runs."""

    def __init__(self, stage: Stage, invite: str, name: str) -> None:
        command = [sys.executable, "-m", "scripts.benchmarks.floods.attacks", invite, name]
        self._program = stage.launch(f"flood-{name}", [*command, str(stage.work / f"attackers-{name}")])

    def __enter__(self) -> None:
        deadline = time.monotonic() + 100
        while "attacks" not in self._program.log.read_text():
            if time.monotonic() > deadline or not self._program.alive():
                raise DemoFailed(f"the flood did not start:\n{self._program.log.read_text()[-2000:]}")
            time.sleep(0.2)

    def __exit__(self, *_: object) -> None:
        if not self._program.alive():
            raise DemoFailed(f"the flood ended:\n{self._program.log.read_text()[-2000:]}")
        self._program.process.kill()
        self._program.process.wait()
