"""`scripts/bench floods`: rounds of a real run under each flood, in pairs with quiet times."""

from __future__ import annotations

import asyncio
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
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
PRIORITY = -10
"""Of the run's programs, where the system permits it: other work, and that of the attackers, counts less."""


@dataclass(frozen=True)
class Window:
    """What was seen in a time."""

    rate: float
    """Rounds a minute."""
    memory: tuple[int, ...]
    """Most resident bytes of the coordinator, its daemon, a volunteer and its daemon."""


def measure_floods(names: Sequence[str], seconds: float, pairs: int) -> Iterator[str]:
    """A table with a row for each flood. seconds: of each flood, and of each quiet time.

    pairs: of a quiet time and a flood, in turn, so that other work on the machine hits both alike.
    """
    yield f"{VOLUNTEERS} volunteers, tiny model; {pairs} pairs of {seconds:g} s without a flood and with it\n"
    yield (
        "| flood | rounds a minute, without → with | ratio | coordinator, MB | its daemon, MB"
        " | volunteer, MB | its daemon, MB | load |\n"
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    )
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as stage:
        invite, programs = _start(stage)
        for name in names:
            seen = []
            for _ in range(pairs):
                without = observe(invite, programs, seconds)
                with Attack(stage, invite, name):
                    seen.append((without, observe(invite, programs, seconds)))
            yield _row(name, seen)


def _row(name: str, pairs: Sequence[tuple[Window, Window]]) -> str:
    rates = ", ".join(f"{without.rate:.0f} → {during.rate:.0f}" for without, during in pairs)
    ratios = sorted(during.rate / without.rate for without, during in pairs)
    memory = " | ".join(
        f"{before / 1e6:.0f} → {most / 1e6:.0f}"
        for before, most in zip(pairs[0][0].memory, _most(during for _, during in pairs), strict=True)
    )
    spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
    return (
        f"| {FLOODS[name].what} | {rates} | {statistics.median(ratios):.2f} ({spread})"
        f" | {memory} | {os.getloadavg()[0]:.1f} |"
    )


def _most(windows: Iterable[Window]) -> Sequence[int]:
    return [max(each) for each in zip(*(window.memory for window in windows), strict=True)]


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
    programs = [stage.named("coordinator"), volunteers[0]]
    deadline = time.monotonic() + 200
    while f"{VOLUNTEERS} contributions" not in programs[0].log.read_text():
        if time.monotonic() > deadline:
            raise DemoFailed(f"no round closed:\n{programs[0].log.read_text()[-2000:]}")
        time.sleep(1)
    return invite, programs


class Attack:
    """Runs a flood while the block runs."""

    _number = itertools.count()

    def __init__(self, stage: Stage, invite: str, name: str) -> None:
        folder = stage.work / f"attackers-{next(self._number)}"
        command = [sys.executable, "-m", "scripts.benchmarks.floods.attacks", invite, name, str(folder)]
        self._program = stage.launch(folder.name, command)

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
