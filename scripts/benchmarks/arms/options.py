"""The options of the benches that run a plan, and what they do."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from scripts.benchmarks.arms.cells import Results, run_plan
from scripts.benchmarks.arms.plan import Cell, Plan
from scripts.benchmarks.arms.training import Outcome

SEEDS = (1, 2, 3)

Task = TypeVar("Task")


def add_plan_options(parser: argparse.ArgumentParser, results: str) -> None:
    """results: the results file where none is named."""
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--results", type=Path, default=Path(results),
                        help="finished arms are stored in this file and not run again")  # fmt: skip
    parser.add_argument("--report", action="store_true", help="print what is finished, and train no arm")
    parser.add_argument("--at-once", type=int, default=1, help="arms that run in parallel")
    parser.add_argument("--only", nargs="+", default=[""],
                        help="only arms of these names or parts of names, and what they need")  # fmt: skip


def finished(
    plan: Plan,
    workload: str,
    chosen: argparse.Namespace,
    task: Task,
    train: Callable[[Task, Cell], Outcome],
) -> Mapping[str, Outcome]:
    """The outcomes in the results file, after the plan's other cells have run, unless a report is asked for.

    workload: its name in the results file. task: what `train` needs in the process of each cell.
    """
    results = Results(chosen.results, workload)
    if not chosen.report:
        run_plan(plan, results, task, train, chosen.at_once)
    return results.done
