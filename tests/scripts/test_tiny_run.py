"""The run file of benchmarks that start programs."""

from __future__ import annotations

from pathlib import Path

from barnraise.contract.spec_file import read_spec
from scripts.benchmarks.tiny_run import write_run


def test_it_is_a_run_with_the_settings_of_its_round(tmp_path: Path) -> None:
    path = write_run(tmp_path, "load", tmp_path, tmp_path / "data.txt", "open", seconds=4, grace=2, steps=3)
    spec = read_spec(path)
    assert (spec.name, spec.trust.mode) == ("load", "open")
    assert (spec.round.seconds, spec.round.grace, spec.round.steps) == (4, 2, 3)
