"""The results of benchmarks on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts.benchmarks.results_file import ResultsFile


@dataclass(frozen=True)
class Outcome:
    loss: float
    weight: tuple[float, ...] = ()


@pytest.mark.parametrize("outcome", [Outcome(1.5), Outcome(float("inf"), (0.25, 0.5))])
def test_what_was_added_is_there_when_the_file_is_opened_again(tmp_path: Path, outcome: Outcome) -> None:
    path = tmp_path / "results.json"
    ResultsFile.open(path, Outcome).add("cell", outcome)
    assert ResultsFile.open(path, Outcome).done == {"cell": outcome}
