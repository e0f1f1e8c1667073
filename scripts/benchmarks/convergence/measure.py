"""`scripts/bench convergence`: the loss of each way of training together, and the bytes that it sends.

Every arm trains the same small LLaMA from the same start on the same batches, so that arms of one seed
differ in nothing else and are compared in pairs. Rates and outer steps of each arm are chosen on a seed of
their own, from a grid that is printed; then it runs with the other seeds. Finished runs are stored in a
results file and not repeated.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from barnraise.contract.spec import Full, TrainSpec
from peer.training.trainer import Trainer
from scripts.benchmarks.arms.arms import Hivemind
from scripts.benchmarks.arms.comparison import found_of
from scripts.benchmarks.arms.options import add_plan_options, finished
from scripts.benchmarks.arms.plan import TUNING_SEED, Cell, Plan, grid_lines
from scripts.benchmarks.arms.training import CPU, Outcome, Workload, bare_spec, run
from scripts.benchmarks.convergence.baseline import train_together
from scripts.benchmarks.convergence.rows import Target, rows
from scripts.benchmarks.convergence.verdicts import convergence_table, verdicts
from scripts.benchmarks.convergence.workload import (
    BATCH,
    HELD_OUT,
    LENGTH,
    Corpus,
    common_start,
    held_out_samples,
    peers_batches,
    read_text,
)
from scripts.demo import CACHE
from scripts.netns import unavailable_reason

STEPS = 160
"""Inner steps of every machine in every arm, unless speeds differ."""


@dataclass(frozen=True)
class Task:
    """What a process needs to train a cell."""

    peers: int
    start: Path


def convergence(chosen: argparse.Namespace) -> str:
    """Run what the results lack; returns grids, table and verdicts. Raises BaselineFailed, NetworkFailed."""
    text, peers = read_text(), chosen.peers
    reason = "left out by --no-baseline" if chosen.no_baseline else unavailable_reason()
    every = [row for row in rows(peers, chosen.targets) if not (reason and isinstance(row.arm, Hivemind))]
    plan = Plan(every, chosen.seeds).only(chosen.only)
    task = Task(peers, common_start(text, CACHE / "bench"))
    done = finished(plan, f"{text.digest} {peers} peers,", chosen, task, train)
    found = found_of(plan, done)
    parts = [_setting(peers, chosen.seeds, text), *grid_lines(plan, done), ""]
    parts += [convergence_table(plan.rows, found), *verdicts(peers, found)]
    if reason:
        parts.append(f"- hivemind.Optimizer was not run: {reason}.")
    return "\n".join(parts)


def train(task: Task, cell: Cell) -> Outcome:
    """The outcome of one cell, in the process that calls this. Raises BaselineFailed, NetworkFailed."""
    text = read_text()
    batches = peers_batches(text, task.peers, STEPS, cell.seed)
    workload = Workload(task.start, batches, held_out_samples(text), cell.seed)
    if isinstance(cell.arm, Hivemind):
        return _train_by_hivemind(cell.arm, workload)
    return run(cell.arm, workload)


def _train_by_hivemind(arm: Hivemind, workload: Workload) -> Outcome:
    end = train_together(arm, workload.start, len(workload.batches), STEPS, workload.seed)
    settings = bare_spec(TrainSpec(target=Full(), inner=arm.inner, batch=BATCH), seed=workload.seed)
    trainer = Trainer(workload.start, settings, CPU, micro_batch=BATCH)
    trainer.load(end.params)
    note = (
        f"groups of {end.group:.2f} on average, replicas {end.apart:.1e} apart,"
        f" {1000 * end.seconds / STEPS:.0f} ms a batch"
    )
    return Outcome(workload.loss(trainer), end.sent, end.sent, note)


def _setting(peers: int, seeds: Sequence[int], text: Corpus) -> str:
    return (
        f"- {peers} peers, {STEPS} inner steps of {BATCH} x {LENGTH} bytes each, AdamW unless stated, H = 20"
        f" unless stated; seeds {', '.join(map(str, seeds))}; {HELD_OUT} held-out samples\n"
        f"- text {text.digest}: {len(text.prose) / 1e6:.1f} MB of prose for the start,"
        f" {sum(map(len, text.train)) / 1e6:.1f} MB of code to train on\n"
        f"- settings of each arm, chosen on seed {TUNING_SEED}:\n"
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--peers", type=int, choices=(4, 8, 16), default=4)
    parser.add_argument("--targets", nargs="+", choices=get_args(Target), default=list(get_args(Target)))
    add_plan_options(parser, "bench-convergence.json")
    parser.add_argument("--no-baseline", action="store_true", help="leave out hivemind.Optimizer")
