"""`scripts/bench costs`: what defences take of a volunteer's time, and audits of one volunteer's computing.

SmolLM2-135M on one thread, eight contributions to a round. All figures are computing time, in which other
programs do not count. How often rounds are audited follows from the coordinator's own budget.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from barnraise.evaluation.audit_job import AuditReply
from coordinator.audits.choose import Budget
from scripts.benchmarks.defence_costs import AUDITED, TARGETS
from scripts.stage import ROOT, DemoFailed

LENGTHS = (25, 60, 300)
"""Seconds of a round: the demo's, a short one, the default."""
ROUNDS = 10_000
"""Simulated, to find how often a round is audited."""
_SINGLE = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Audit:
    """What one audit takes, in CPU seconds."""

    whole: float
    """Of the program, from its start to its exit."""
    each: float
    """Of a forward pass."""
    passes: int

    @property
    def fixed(self) -> float:
        """Apart from the passes."""
        return self.whole - self.passes * self.each


def measure_costs(targets: Sequence[str], repeats: int) -> Iterator[str]:
    """The two tables of each target. Raises DemoFailed."""
    for target in targets:
        with tempfile.TemporaryDirectory() as folder:
            found = json.loads(_program("scripts.benchmarks.defence_costs", target, folder, repeats))
            audits = {audited: _audit(Path(folder) / f"job-{audited}.json") for audited in AUDITED}
        yield volunteer_table(target, found)
        yield audit_table(target, found["step"], audits)


def volunteer_table(target: str, found: dict[str, float]) -> str:
    """What following a round takes, without and with defences."""
    more = found["defended"] - found["fold"]
    heads = "".join(f" of a round of {length} s |" for length in LENGTHS)
    cells = "".join(f" {more / length:.2%} |" for length in LENGTHS)
    return (
        f"| {target} | a step of a sample, s | forward pass, s | fold of the mean, s | defended, s"
        f" | more, s |{heads}\n| --- |{' ---: |' * (5 + len(LENGTHS))}\n"
        f"| 8 contributions | {found['step']:.2f} | {found['forward']:.2f} | {found['fold']:.3f}"
        f" | {found['defended']:.3f} | {more:.3f} |{cells}\n"
    )


def audit_table(target: str, step: float, audits: dict[int, Audit]) -> str:
    """What audits take of one volunteer, by the coordinator's budget."""
    lines = [
        f"| {target}, audited of 8 | of an audit, not passes, s | a pass, s | round, s | audited, of rounds"
        " | of one volunteer |",
        f"| ---: |{' ---: |' * 5}",
    ]
    for audited, audit in audits.items():
        for length in LENGTHS:
            often, share = simulated(target, audited, audit, step, length)
            lines.append(
                f"| {audited} | {audit.fixed:.1f} | {audit.each:.2f} | {length} | {often:.1%} | {share:.1%} |"
            )
    return "\n".join(lines) + "\n"


def simulated(target: str, audited: int, audit: Audit, step: float, length: float) -> tuple[float, float]:
    """The share of rounds that are audited, and what that takes of one volunteer's computing."""
    budget, audits, spent = Budget(), 0, 0.0
    for _ in range(ROUNDS):
        budget = budget.after([max(1, int(length / step))] * 8, TARGETS[target])
        count = budget.samples_for(audited)
        if count is not None:
            passes = count * (audited + 1)
            audits, spent = audits + 1, spent + audit.fixed + passes * audit.each
            budget = budget.without(passes, audit.fixed / audit.each)
    return audits / ROUNDS, spent / (ROUNDS * length)


def _audit(job: Path) -> Audit:
    before = _children()
    reply = AuditReply.model_validate_json(_program("barnraise.evaluation.audit_program", job))
    return Audit(_children() - before, reply.pass_seconds / reply.forward_passes, reply.forward_passes)


def _program(module: str, *arguments: object) -> str:
    """The last line that a program prints."""
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT, env=os.environ | _SINGLE, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise DemoFailed(f"{module} ended by {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout.strip().rpartition("\n")[2]


def _children() -> float:
    """Processor time of the child processes that have exited."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
