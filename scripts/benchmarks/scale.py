"""`scripts/bench scale`: the load of a volunteer and of the coordinator as a swarm grows.

A few volunteers are real programs with a small model on loopback, many are simulated.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from barnraise.contract.spec import DataSpec, RoundSpec, RunSpec
from barnraise.contract.spec_file import read_spec
from barnraise.fold.codec import blob_limit
from barnraise.models.trainable import layout
from scripts.benchmarks.round import Tail, follow, spent
from scripts.benchmarks.simulated_volunteer import DOWNLINKS, SLOWEST, STEP_SECONDS, UPLINKS
from scripts.benchmarks.simulation import COORDINATOR_LINE, Simulation
from scripts.benchmarks.simulation_result import SimulationResult
from scripts.benchmarks.tiny_run import write_run
from scripts.demo import corpus
from scripts.stage import Program, running, serve
from tests.support.tiny import make_tiny_model

FIRST = 1
"""From this round on all volunteers are present."""
SIMULATED_BLOB = 22_000_000
"""Bytes: the 4-bit update of an adapter of rank 16 on an 8B model (42M values)."""


@dataclass(frozen=True)
class Usage:
    """What a program and its child processes use."""

    cpu: float
    """Seconds of a core since the start, the libp2p daemon included."""
    memory: int
    """Resident bytes."""

    @classmethod
    def of(cls, program: Program) -> Usage:
        process = psutil.Process(program.process.pid)
        family = [process, *process.children(recursive=True)]
        times = [member.cpu_times() for member in family]
        return cls(sum(each.user + each.system for each in times), sum(m.memory_info().rss for m in family))


def measure_processes(counts: Sequence[int], rounds: int) -> str:
    rows = [_measure(count, rounds) for count in counts]
    return "\n".join(
        [
            "| volunteers | blob, MB | round, s | received, blobs | sent, blobs"
            " | coordinator's CPU, s a round | coordinator's memory, MB |",
            "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
            *rows,
        ]
    )


def _measure(peers: int, rounds: int) -> str:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        model = make_tiny_model(work / "model", width=192, layers=4)
        run = write_run(
            work, "scale", model, corpus(work), "invite",
            seconds=20 + 10 * peers, grace=60, steps=4, min_contributions=peers,
        )  # fmt: skip
        spec = read_spec(run)
        blob = blob_limit(spec.codec, layout(model, spec.train.target))
        with running(work) as stage:
            invite, _ = serve(stage)
            coordinator = stage.named("coordinator")
            tails = [
                Tail(stage.volunteer(f"peer-{number}", invite, "--base", str(model)))
                for number in range(peers)
            ]
            follow(tails, FIRST)
            before = Usage.of(coordinator)
            follow(tails, FIRST + rounds)
            after = Usage.of(coordinator)
    found = [spent(tail.lines, round) for tail in tails for round in range(FIRST, FIRST + rounds)]
    seconds = statistics.median(each.seconds for each in found)
    down, up = (statistics.mean(getattr(each, way) for each in found) / blob for way in ("down", "up"))
    return (
        f"| {peers} | {blob / 1e6:.2f} | {seconds:.1f} | {down:.2f} | {up:.2f}"
        f" | {(after.cpu - before.cpu) / rounds:.2f} | {after.memory / 1e6:.0f} |"
    )


def simulate(counts: Sequence[int], rounds: int, seed: int) -> str:
    spec = RunSpec(
        name="scale",
        data=DataSpec(source="none", sequence_length=512),
        round=RoundSpec(seconds=600, grace=120),
    )
    without = spec.model_copy(update={"round": RoundSpec(seconds=600, grace=120, max_contributions=1024)})
    rows = []
    for count in counts:
        rows.append(_row(Simulation(spec, count, SIMULATED_BLOB, seed).run(rounds), "32"))
        if count > spec.round.max_contributions:
            rows.append(_row(Simulation(without, count, SIMULATED_BLOB, seed).run(rounds), "all"))
    return "\n".join(
        [
            f"{rounds} rounds of {spec.round.seconds:g} s; a blob of {SIMULATED_BLOB / 1e6:.0f} MB; steps of"
            f" {STEP_SECONDS:g} to {STEP_SECONDS * SLOWEST:g} s; {UPLINKS[0]} to {UPLINKS[1]} Mbit/s up,"
            f" {DOWNLINKS[0]} to {DOWNLINKS[1]} down, the coordinator {COORDINATOR_LINE} each way\n",
            "| volunteers | at most | rotation | folded | round, s | received, MB | sent, MB"
            " | records sent, MB | busiest holder, kbit/s | idle | missed | coordinator's CPU, s"
            " | coordinator received, MB |",
            "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
            *rows,
        ]
    )


def _row(found: SimulationResult, limit: str) -> str:
    return (
        f"| {found.volunteers} | {limit} | {found.turns} | {found.contributions:.1f} | {found.seconds:.0f}"
        f" | {found.down / 1e6:.0f} | {found.up / 1e6:.0f} | {found.costs.sent / 1e6:.1f}"
        f" | {found.costs.keeper * 8 / 1e3:.0f} | {found.still:.1%}"
        f" | {found.late:.1%} | {found.coordinator_cpu:.1f} | {found.coordinator_down / 1e6:.0f} |"
    )
