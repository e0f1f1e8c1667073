"""Simulates hours of a run whose volunteers come and go, and prints a table.

The exit status is 1 where rounds do not close, or where something that the coordinator remembers exceeds its
bound.
"""

from __future__ import annotations

import argparse
import asyncio
import shlex
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from barnraise.contract.spec import CheckpointSpec, DataSpec, RoundSpec, RunSpec
from barnraise.contract.state import TrainState
from barnraise.contract.trust_spec import TrustSpec
from scripts.benchmarks.simulation import LAYOUT
from scripts.simulation.churn import Churn, ChurnResult
from tests.support.coordinators import opened_store

LONGEST = 2.0
"""A round may take this many times its training and grace."""


def main() -> int:
    options = _parser().parse_args()
    print(f"- command: `scripts/simulate {shlex.join(sys.argv[1:])}`\n")
    print(
        "| volunteers | joined in all | rounds | folded a round | round, s | longest, s | CPU, s"
        " | RSS after each hour, MB |"
    )
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    results = []
    for count in options.volunteers:
        began = time.process_time()
        found = simulate(count, options.hours, options.seed, options.seconds, options.half_life)
        memory = ", ".join(f"{size / 1e6:.0f}" for size in found.memory)
        print(
            f"| {count} | {found.keys} | {found.rounds} | {found.contributions:.1f} | {found.seconds:.0f}"
            f" | {found.longest:.0f} | {time.process_time() - began:.0f} | {memory} |",
            flush=True,
        )
        results.append(found)
    names = list(results[0].sizes)
    print("\n| largest | " + " | ".join(map(str, options.volunteers)) + " | bound |")
    print("| --- |" + " ---: |" * (len(results) + 1))
    for name in names:
        print(
            f"| {name} | "
            + " | ".join(str(found.sizes[name].entries) for found in results)
            + f" | {results[-1].sizes[name].bound} |"
        )
    problems = [text for found in results for text in problems_of(found, options.seconds)]
    print("\n".join(f"error: {text}" for text in problems), file=sys.stderr)
    return 1 if problems else 0


def simulate(volunteers: int, hours: float, seed: int, seconds: float, half_life: float) -> ChurnResult:
    """One run with `volunteers` at any time, half of which leave in each `half_life` seconds."""
    spec = RunSpec(
        name="barn",
        data=DataSpec(source="none", sequence_length=512),
        round=RoundSpec(seconds=seconds, grace=seconds / 5),
        checkpoint=CheckpointSpec(every=4, held_out_tokens=0),
        trust=TrustSpec(mode="open"),
    )
    genesis = TrainState({name: np.zeros(shape, np.float32) for name, shape in LAYOUT})
    shared_memory = Path("/dev/shm")
    place = shared_memory if shared_memory.is_dir() else None
    with (
        tempfile.TemporaryDirectory(dir=place) as folder,
        opened_store(Path(folder) / "run", spec, genesis) as store,
    ):
        return asyncio.run(Churn(spec, volunteers, store, seed, half_life).simulate(hours))


def problems_of(found: ChurnResult, seconds: float) -> list[str]:
    """What of the promises does not hold."""
    problems = [
        f"{found.volunteers} volunteers: {size.entries} {name}, at most {size.bound} are promised"
        for name, size in found.exceeded().items()
    ]
    if found.longest > LONGEST * seconds * 1.2:
        problems.append(f"{found.volunteers} volunteers: a round of {seconds:g} s took {found.longest:.0f} s")
    return problems


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/simulate", description=__doc__)
    parser.add_argument("--volunteers", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--hours", type=float, default=4.0, help="of the run's clock")
    parser.add_argument("--seconds", type=float, default=600.0, help="of a round")
    parser.add_argument("--half-life", type=float, default=3600.0, help="half of the volunteers leave in it")
    parser.add_argument("--seed", type=int, default=0)
    return parser


if __name__ == "__main__":
    sys.exit(main())
