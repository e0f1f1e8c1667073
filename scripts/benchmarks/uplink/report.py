"""The report of `scripts/bench uplink`: our run's tables, and its checkpoints against the baseline."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from barnraise.contract.archive import folder_of
from barnraise.models.base_model import resolve
from coordinator.run_folder import ARCHIVE
from scripts.benchmarks.round import Tail
from scripts.benchmarks.uplink.figures import (
    Delivery,
    crossing_time,
    distribution_bound,
    distribution_seconds,
    idle_share,
    of_rounds,
)
from scripts.benchmarks.uplink.programs import Cpu
from scripts.benchmarks.uplink.settings import FIRST, Options
from scripts.demo import CACHE, MODEL, evaluate
from scripts.netns import Traffic

PROMPT = "What does the join method of a string do?"


@dataclass
class Ours:
    """The measurements of our own run."""

    tails: list[Tail]
    began: float
    """When the first volunteer began to train."""
    deliveries: dict[int, list[Delivery]]
    """By round."""
    wire: dict[str, Traffic]
    """The traffic on each volunteer's line in all measured rounds."""
    cpu: dict[str, Cpu]
    """The processor time of each volunteer's programs in all measured rounds."""
    contributed: dict[str, int]
    """The number of measured rounds whose close lists each volunteer."""
    checkpoints: dict[int, float] = field(default_factory=dict)
    """When the checkpoint of a state was written, by its round."""


@dataclass(frozen=True)
class State:
    """A state of an arm."""

    name: str
    at: float
    """Seconds of training."""
    loss: float
    """Held-out, in nats per trained token."""


def own_tables(ours: Ours, options: Options) -> list[str]:
    """Our run: its setting, a row for each volunteer, a row for each round's distribution."""
    return [
        f"{options.target}, {options.peers} volunteers and the coordinator at {options.mbit:g} Mbit/s"
        f" each way, {options.rounds} rounds of {options.seconds:g} s, overlap {options.overlap},"
        f" codec {options.codec or 'by default'}",
        "| volunteer | round, s | not training | of a core, not training | rounds contributed to |"
        " sent, MB a round | received, MB a round |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n" + "\n".join(_volunteer_rows(ours, options)),
        "| round | blobs | a blob, MB | all have all after, s | bound, s | ÷ bound |\n"
        "| ---: | ---: | ---: | ---: | ---: | ---: |\n" + "\n".join(_round_rows(ours, options)),
    ]


def _volunteer_rows(ours: Ours, options: Options) -> list[str]:
    rows = []
    for tail in ours.tails:
        lines, wire = of_rounds(tail.lines, FIRST, options.end), ours.wire[tail.program.name]
        elapsed = lines[-1].at - lines[0].at
        up, down = (getattr(wire, way) / options.rounds / 1e6 for way in ("up", "down"))
        cpu, count = ours.cpu[tail.program.name], ours.contributed[tail.program.name]
        rows.append(
            f"| {tail.program.name} | {elapsed / options.rounds:.1f} | {idle_share(lines):.1%}"
            f" | {(cpu.all - cpu.training) / elapsed:.1%} | {count} | {up:.2f} | {down:.2f} |"
        )
    return rows


def _round_rows(ours: Ours, options: Options) -> list[str]:
    """The rounds in which every node received every blob."""
    rate, nodes = options.mbit * 1e6 / 8, options.peers + 1
    rows = []
    for round, deliveries in sorted(ours.deliveries.items()):
        if all(len(delivery.arrived) == nodes - 1 for delivery in deliveries):
            seconds, least = distribution_seconds(deliveries), distribution_bound(deliveries, rate, nodes)
            size = statistics.mean(delivery.size for delivery in deliveries) / 1e6
            cells = [f"{figure:.2f}" for figure in (size, seconds, least, seconds / least)]
            rows.append(f"| {round} | {len(deliveries)} | {' | '.join(cells)} |")
    return rows


def compare(work: Path, ours: Ours, baseline: dict[str, Any], options: Options) -> list[str]:
    """Our checkpoints' held-out losses by time, up to the first that reaches each of the baseline's."""
    theirs = [
        State(f"hivemind.Optimizer, step {step}", at, loss) for step, at, loss in baseline.get("states", [])
    ]
    states = _states(work, ours, min((state.loss for state in theirs), default=None))
    rows = [f"| {state.name} | {state.at:.0f} | {state.loss:.4f} |" for state in [*states, *theirs]]
    table = "| arm | seconds of training | held-out loss |\n| --- | ---: | ---: |\n" + "\n".join(rows)
    if not baseline:
        return [table]
    ratios = (
        "| ours reaches the loss of | times as fast, by a checkpoint | interpolated |\n"
        "| --- | ---: | ---: |\n" + "\n".join(_ratio_row(states, state) for state in theirs)
    )
    return [table, _baseline_summary(baseline, options), ratios]


def _states(work: Path, ours: Ours, until: float | None) -> list[State]:
    """The base model and our checkpoints, up to the first one at `until` or below."""
    base, held_out = resolve(MODEL, None, CACHE).path, work / "coordinator" / "held-out"
    states = [State("start", 0.0, evaluate(base, held_out, PROMPT).loss)]
    for round, at in sorted(ours.checkpoints.items()):
        if round == 0:
            continue
        folder = work / "coordinator" / ARCHIVE / folder_of("trained", round)
        loss = evaluate(base, held_out, PROMPT, folder).loss
        states.append(State(f"ours, state {round}", at - ours.began, loss))
        if until is not None and loss <= until:
            break
    return states


def _ratio_row(states: Sequence[State], theirs: State) -> str:
    reached = next((state.at for state in states if state.loss <= theirs.loss), None)
    if reached is None:
        return f"| {theirs.name} | not by the last checkpoint | |"
    crossed = crossing_time([(state.at, state.loss) for state in states], theirs.loss)
    return f"| {theirs.name} | {theirs.at / reached:.1f} | {theirs.at / crossed:.1f} |"


def _baseline_summary(baseline: dict[str, Any], options: Options) -> str:
    return (
        f"hivemind at {options.baseline_lr:g} (ours at {options.lr:g}, outer {options.outer_lr:g}):"
        f" {baseline['epochs']} steps of {options.baseline_batch} samples,"
        f" {baseline['samples']} in all, {baseline['training']:.0%} of its time in training,"
        f" {baseline['groups']} averages with {baseline['group']:.1f} peers,"
        f" {baseline['sent'] / 1e6:.0f} MB sent per peer."
    )
