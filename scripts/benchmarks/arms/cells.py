"""Runs the cells of a plan in processes of one thread, and keeps what is finished in a file."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

from scripts.benchmarks.arms.plan import Cell, Plan, settings
from scripts.benchmarks.arms.training import Outcome
from scripts.benchmarks.results_file import ResultsFile

Task = TypeVar("Task")


class Results:
    """The outcomes of one workload in a results file, which other workloads share."""

    def __init__(self, path: Path, prefix: str) -> None:
        """prefix: names the workload, in front of each cell's name."""
        self._file, self._prefix = ResultsFile.open(path, Outcome), f"{prefix} "

    @property
    def done(self) -> Mapping[str, Outcome]:
        length = len(self._prefix)
        return {name[length:]: one for name, one in self._file.done.items() if name.startswith(self._prefix)}

    def add(self, cell: Cell, outcome: Outcome) -> None:
        self._file.add(self._prefix + cell.name, outcome)


def run_plan(
    plan: Plan, results: Results, task: Task, train: Callable[[Task, Cell], Outcome], at_once: int
) -> None:
    """Run all cells that the plan needs, `at_once` in parallel; `train` runs in a process of its own."""
    os.environ["OMP_NUM_THREADS"] = "1"
    running: dict[Future[tuple[Outcome, float]], Cell] = {}
    with ProcessPoolExecutor(at_once, mp_context=get_context("spawn")) as pool:
        while True:
            busy = {cell.name for cell in running.values()}
            waiting = [cell for cell in plan.missing(results.done) if cell.name not in busy]
            for cell in waiting[: at_once - len(running)]:
                running[pool.submit(_timed, train, task, cell)] = cell
            if not running:
                return
            for ended in wait(running, return_when=FIRST_COMPLETED).done:
                cell = running.pop(ended)
                outcome, seconds = ended.result()
                results.add(cell, outcome)
                what = f"{cell.row}, {settings(cell.arm)}, seed {cell.seed}"
                print(f"{what}: {outcome.loss:.4f}, {seconds:.0f} CPU s", file=sys.stderr, flush=True)


def _timed(train: Callable[[Task, Cell], Outcome], task: Task, cell: Cell) -> tuple[Outcome, float]:
    began = time.process_time()
    return train(task, cell), time.process_time() - began
