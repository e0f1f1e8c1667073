"""`scripts/bench convergence`: the loss of each way of training together, and the bytes that it sends.

Every arm trains the same small LLaMA from the same start on the same batches, so that arms of one seed
differ in nothing else and are compared in pairs. Finished arms are stored in a results file and not run
again.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from barnraise.contract.spec import CodecSpec, Dense, Full, InnerSpec, Lora, Sgd, Sparse
from peer.training.trainer import Trainer
from scripts.benchmarks.convergence.arms import (
    ADAMW,
    STEPS,
    Alone,
    Ddp,
    Diloco,
    Outcome,
    Workload,
    key,
    run,
    run_spec,
)
from scripts.benchmarks.convergence.baseline import Baseline, BaselineFailed, train_together
from scripts.benchmarks.convergence.verdicts import Row, convergence_table, verdicts
from scripts.benchmarks.convergence.workload import (
    BATCH,
    CPU,
    HELD_OUT,
    LENGTH,
    Corpus,
    common_start,
    held_out_loss,
    held_out_samples,
    peers_batches,
    read_text,
)
from scripts.benchmarks.results_file import ResultsFile
from scripts.demo import CACHE
from scripts.netns import NetworkFailed, unavailable_reason

SEEDS = (1, 2, 3)
ADAPTER = Lora(rank=8, alpha=16.0)
NESTEROV = Sgd(lr=0.7, momentum=0.5, nesterov=True)
FASTER = Sgd(lr=0.7, momentum=0.7, nesterov=True)
"""For more machines: their mean has less noise, which allows a larger outer step."""
MUON = InnerSpec(optimizer="muon", lr=4e-3, clip_norm=0.0)
"""The best of 1, 2 and 4e-3 for 2 bits with 8 machines, seed 1."""
FASTER_ADAMW = InnerSpec(lr=2e-3, clip_norm=0.0)
"""The best of 1, 2 and 3e-3 for DDP with 8 machines, seed 1."""
SPEEDS = (1.0, 1.0, 0.5, 0.2)


def sparse(density: float, bits: int = 2) -> CodecSpec:
    return Sparse.model_validate({"density": density, "bits": bits})


def dense(bits: int) -> CodecSpec:
    return Dense.model_validate({"bits": bits})


def rows(peers: int) -> list[Row]:
    """The arms for `peers` machines; above 4, only those that show how results scale."""
    speeds = (SPEEDS * peers)[:peers]
    average = "uncompressed average"
    few = [
        Row("one machine alone", Alone()),
        Row("DDP (bytes: fp32 ring, computed)", Ddp()),
        Row("hivemind.Optimizer, a step every batch", Baseline()),
        Row("hivemind.Optimizer, parameters averaged every 20 steps", Baseline(state_every=20), once=True),
        Row("hivemind.Optimizer, a step every 20 batches", Baseline(epoch_steps=20)),
        Row(
            "hivemind.Optimizer, local updates, H = 20",
            Baseline(epoch_steps=20, local_updates=True),
        ),
        Row(average, Diloco()),
        Row("4 bit", Diloco(codec=dense(4))),
        Row("2 bit", Diloco(codec=dense(2))),
        Row("sparse 12.5 %, 2 bit", Diloco(codec=sparse(1 / 8))),
        Row("2 bit, Nesterov 0.7 / 0.5", Diloco(codec=dense(2), outer=NESTEROV)),
        Row("2 bit, H = 10, Nesterov 0.7 / 0.5", Diloco(steps=10, codec=dense(2), outer=NESTEROV)),
        Row("2 bit, Nesterov 0.7 / 0.7", Diloco(codec=dense(2), outer=FASTER)),
        Row("2 bit, H = 10, Nesterov 0.7 / 0.7", Diloco(steps=10, codec=dense(2), outer=FASTER)),
        Row(
            "sparse 12.5 %, 2 bit, H = 10, Nesterov 0.7 / 0.5",
            Diloco(steps=10, codec=sparse(1 / 8), outer=NESTEROV),
        ),
        Row("overlap, 5 of 20 steps ahead, 4 bit", Diloco(codec=dense(4), ahead=5)),
        Row("AdamW 2e-3, DDP", Ddp(inner=FASTER_ADAMW)),
        Row(
            "2 bit, AdamW 2e-3, Nesterov 0.7 / 0.5",
            Diloco(codec=dense(2), outer=NESTEROV, inner=FASTER_ADAMW),
        ),
        Row("Muon, one machine alone", Alone(inner=MUON)),
        Row("Muon, DDP", Ddp(inner=MUON)),
        Row("2 bit, Muon", Diloco(codec=dense(2), inner=MUON)),
        Row("2 bit, Muon, Nesterov 0.7 / 0.5", Diloco(codec=dense(2), outer=NESTEROV, inner=MUON)),
        Row(
            "sparse 12.5 %, 2 bit, H = 10, Muon, Nesterov 0.7 / 0.5",
            Diloco(steps=10, codec=sparse(1 / 8), outer=NESTEROV, inner=MUON),
        ),
    ]
    many = [
        Row("sparse 3.1 %, 2 bit", Diloco(codec=sparse(1 / 32))),
        Row("sparse 1.6 %, 2 bit", Diloco(codec=sparse(1 / 64))),
        Row("H = 10", Diloco(steps=10)),
        Row("Nesterov 0.7 / 0.5", Diloco(outer=NESTEROV)),
        Row("H = 10, Nesterov 0.7 / 0.5", Diloco(steps=10, outer=NESTEROV)),
        Row(
            "sparse 6.2 %, 2 bit, H = 10, Nesterov 0.7 / 0.5",
            Diloco(steps=10, codec=sparse(1 / 16), outer=NESTEROV),
        ),
        Row("overlap, 10 of 20 steps ahead", Diloco(ahead=10)),
        Row("speeds 1, 1, 0.5, 0.2, weights by tokens", Diloco(speeds=speeds)),
        Row("speeds 1, 1, 0.5, 0.2, equal weights", Diloco(speeds=speeds, weights="uniform"),
            "speeds 1, 1, 0.5, 0.2, weights by tokens"),
        Row("late (a third), trained on from", Diloco(late="kept")),
        Row("late (a third), trained on from, 2 bit", Diloco(codec=dense(2), late="kept"), "2 bit"),
        Row("late (a third), into the residual", Diloco(late="owed")),
        Row("late (a third), dropped", Diloco(late="dropped")),
        Row("LoRA, one machine alone", Alone(target=ADAPTER), "LoRA, uncompressed average"),
        Row("LoRA, DDP (bytes: fp32 ring, computed)", Ddp(target=ADAPTER), "LoRA, uncompressed average"),
        Row("LoRA, uncompressed average", Diloco(target=ADAPTER), "LoRA, uncompressed average"),
        Row("LoRA, 4 bit", Diloco(target=ADAPTER, codec=dense(4)), "LoRA, uncompressed average"),
        Row("LoRA, 2 bit", Diloco(target=ADAPTER, codec=dense(2)), "LoRA, uncompressed average"),
        Row("LoRA, sparse 12.5 %, 2 bit", Diloco(target=ADAPTER, codec=sparse(1 / 8)),
            "LoRA, uncompressed average"),
    ]  # fmt: skip
    return few + many if peers <= 4 else few


@dataclass(frozen=True)
class Job:
    """One arm to train with one seed."""

    row: Row
    peers: int
    seed: int
    start: Path

    def name(self, text: Corpus) -> str:
        return f"{text.digest} {self.peers} peers, seed {self.seed}: {key(self.row.arm)}"


def measure(peers: int, seeds: Sequence[int], path: Path, only: str, baselines: bool, at_once: int) -> str:
    """Run the arms that the results at `path` lack; returns table and verdicts. Raises BaselineFailed."""
    text, results = read_text(), ResultsFile.open(path, Outcome)
    wanted = [row for row in rows(peers) if only in row.name]
    reason = "left out by --no-baseline" if not baselines else unavailable_reason()
    if reason:
        wanted = [row for row in wanted if not isinstance(row.arm, Baseline)]
    start = common_start(text, CACHE / "bench")
    jobs = [
        Job(row, peers, seed, start) for seed in seeds for row in wanted if seed == seeds[0] or not row.once
    ]
    for job, outcome, seconds in _run_all(
        [job for job in jobs if job.name(text) not in results.done], at_once
    ):
        results.add(job.name(text), outcome)
        print(f"{peers} peers, seed {job.seed}, {job.row.name}: {seconds:.0f} s", file=sys.stderr, flush=True)
    found: dict[str, list[Outcome]] = {row.name: [] for row in wanted}
    for job in jobs:
        found[job.row.name].append(results.done[job.name(text)])
    parts = [_setting(peers, seeds, text), convergence_table(wanted, found), *verdicts(found)]
    if reason:
        parts.append(f"- hivemind.Optimizer was not run: {reason}.")
    return "\n".join(parts)


def _run_all(jobs: Sequence[Job], at_once: int) -> Iterator[tuple[Job, Outcome, float]]:
    """Outcomes and seconds in order of completion; `at_once` arms in parallel, in processes of one thread.

    Baselines run one after the other in a further process: their peers mostly wait for each other.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    ours, baselines = (ProcessPoolExecutor(n, mp_context=get_context("spawn")) for n in (at_once, 1))
    try:
        running = {
            (baselines if isinstance(job.row.arm, Baseline) else ours).submit(_run_one, job): job
            for job in jobs
        }
        for ended in as_completed(running):
            yield running[ended], *ended.result()
    finally:
        for pool in (ours, baselines):
            pool.shutdown(cancel_futures=True)


def _run_one(job: Job) -> tuple[Outcome, float]:
    text, began = read_text(), time.monotonic()
    batches = peers_batches(text, job.peers, STEPS, job.seed)
    workload = Workload(job.start, batches, held_out_samples(text), job.seed)
    outcome = (
        _baseline_outcome(job.row.arm, workload)
        if isinstance(job.row.arm, Baseline)
        else run(job.row.arm, workload)
    )
    return outcome, time.monotonic() - began


def _baseline_outcome(baseline: Baseline, workload: Workload) -> Outcome:
    end = train_together(baseline, workload.start, len(workload.batches), STEPS, workload.seed)
    trainer = Trainer(workload.start, run_spec(Full(), ADAMW, workload.seed), CPU, micro_batch=BATCH)
    trainer.load(end.params)
    note = (
        f"groups of {end.group:.2f} on average, replicas {end.apart:.1e} apart,"
        f" {1000 * end.seconds / STEPS:.0f} ms a batch"
    )
    return Outcome(held_out_loss(trainer, workload.held_out), end.sent, end.sent, note)


def _setting(peers: int, seeds: Sequence[int], text: Corpus) -> str:
    return (
        f"- {peers} peers, {STEPS} inner steps of {BATCH} x {LENGTH} bytes each, AdamW {ADAMW.lr:g}, H = 20"
        f" unless stated; seeds {', '.join(map(str, seeds))}; {HELD_OUT} held-out samples\n"
        f"- text {text.digest}: {len(text.prose) / 1e6:.1f} MB of prose for the start,"
        f" {sum(map(len, text.train)) / 1e6:.1f} MB of code to train on\n"
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--peers", type=int, choices=(4, 8), default=4)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--results", type=Path, default=Path("bench-convergence.json"),
                        help="finished arms are stored in this file and not run again")  # fmt: skip
    parser.add_argument("--at-once", type=int, default=1, help="arms that run in parallel")
    parser.add_argument("--only", default="", help="only arms with this in their name")
    parser.add_argument("--no-baseline", action="store_true", help="leave out hivemind.Optimizer")


def convergence(chosen: argparse.Namespace) -> str:
    """The tables for the arguments of `add_arguments`. Raises BaselineFailed, NetworkFailed."""
    return measure(
        chosen.peers, chosen.seeds, chosen.results, chosen.only, not chosen.no_baseline, chosen.at_once
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench convergence", description=__doc__)
    add_arguments(parser)
    chosen = parser.parse_args()
    try:
        print(convergence(chosen))
    except (BaselineFailed, NetworkFailed) as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
