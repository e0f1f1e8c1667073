"""`scripts/bench audits`: the scores of honest kinds and of attacks, and what the sequential test finds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import astuple
from pathlib import Path

import torch

from scripts.benchmarks.audits.detection import detection_table, scores_of
from scripts.benchmarks.audits.statistics import KINDS, Found, measure
from scripts.benchmarks.convergence.workload import common_start, read_text

SIMULATED = 10**6
"""Honest peer-rounds of each kind."""


def measure_audits(kinds: Sequence[str], seed: int, cache: Path, results: Path) -> Iterator[str]:
    """Measure the kinds that `results` lacks, keep their figures there, and print the tables."""
    torch.set_num_threads(1)
    text = read_text()
    start = common_start(text, cache)
    saved = json.loads(results.read_text()) if results.is_file() else {}
    for kind in KINDS:
        if kind.name in kinds and kind.name not in saved:
            saved[kind.name] = [astuple(each) for each in measure(kind, text, start, seed)]
            results.write_text(json.dumps(saved))
    scores = {
        name: scores_of((Found(*each) for each in saved[name]), seed) for name in kinds if name in saved
    }
    yield detection_table(scores, SIMULATED, seed)
