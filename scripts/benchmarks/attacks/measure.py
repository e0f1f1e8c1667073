"""`scripts/bench attacks`: what is left of a run's gain while some of its contributors attack it.

Each cell trains the toy of `scripts/bench convergence` with the real codec, weights, clipping, fold and
audits. Honest peers are trusted; attackers are new keys on probation, or keys that were honest until they
were trusted. Finished cells are stored in a results file and not run again.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from barnraise.contract.spec import CodecSpec, Dense, Sparse
from scripts.benchmarks.attacks.defences import ARMS, Arm
from scripts.benchmarks.attacks.kinds import ATTACKS, SIGN_FLIP, TURNED, Attack
from scripts.benchmarks.attacks.llama import Llama
from scripts.benchmarks.attacks.swarm import HONEST_ROUNDS, ROUNDS, STEPS, Cell, Outcome, run
from scripts.benchmarks.attacks.toys import BATCH, LENGTH, Bigram, Toy
from scripts.benchmarks.attacks.verdicts import Row, attack_table, verdicts
from scripts.benchmarks.results_file import ResultsFile
from scripts.demo import CACHE

SIZES = {"1/8": (1, 8), "3/8": (3, 8), "7/16": (7, 16)}
"""Attackers, and all peers."""
TOYS: dict[str, Callable[[], Toy]] = {"llama": lambda: Llama(CACHE / "bench"), "bigram": Bigram}
CODECS: dict[str, CodecSpec] = {"4-bit": Dense(), "sparse": Sparse()}


@dataclass(frozen=True)
class Plan:
    """What is measured."""

    sizes: Sequence[str]
    arms: Sequence[Arm]
    seeds: Sequence[int]
    codec: str
    model: str

    def rows(self) -> list[Row]:
        """Of the table."""
        found = []
        for attackers, peers in (SIZES[size] for size in self.sizes):
            found += [self._row(attack, attackers, peers) for attack in ATTACKS]
            found += [self._row(attack, attackers, peers, sleepers=True) for attack in TURNED]
        return [row for place, row in enumerate(found) if row not in found[:place]]

    def _row(self, attack: Attack, attackers: int, peers: int, *, sleepers: bool = False) -> Row:
        honest = peers - attackers
        if attack.keys is not None:  # eight honest peers against any number of keys
            honest, attackers, peers = 8, attack.keys, 8 + attack.keys
        cells: dict[Arm, list[tuple[Cell, Cell]]] = {}
        for arm in self.arms:
            for seed in self.seeds:
                cell = Cell(attack, honest, attackers, arm, seed, sleepers, CODECS[self.codec], self.model)
                alone = replace(cell, attack=None, attackers=0, arm="none")
                cells.setdefault(arm, []).append((cell, alone))
        name = f"{attack.name}, after {HONEST_ROUNDS} honest rounds" if sleepers else attack.name
        # Updates are small after the honest rounds, and so is their negative.
        harms = attack.harms and not (sleepers and attack is SIGN_FLIP)
        return Row(name, harms, attackers, peers, cells)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sizes", nargs="*", choices=SIZES, default=["3/8", "7/16", "1/8"])
    parser.add_argument("--arms", nargs="*", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", type=int, nargs="*", default=[1])
    parser.add_argument("--codec", choices=CODECS, default="4-bit")
    parser.add_argument("--model", choices=TOYS, default="llama", help="bigram: a cell takes seconds")
    parser.add_argument("--only", default="", help="only attacks with this in their name")
    parser.add_argument("--results", type=Path, default=Path("bench-attacks.json"),
                        help="finished cells are stored in this file and not run again")  # fmt: skip


def attacks(chosen: argparse.Namespace) -> Iterator[str]:
    """The tables for the arguments of `add_arguments`."""
    plan = Plan(chosen.sizes, chosen.arms, chosen.seeds, chosen.codec, chosen.model)
    wanted = [row for row in plan.rows() if chosen.only in row.attack]
    results = ResultsFile.open(chosen.results, Outcome)
    toy = TOYS[chosen.model]()
    for cell in _cells(wanted):
        if cell.name in results.done:
            continue
        began = time.monotonic()
        outcome = run(cell, toy)
        results.add(cell.name, outcome)
        took = time.monotonic() - began
        print(f"{cell.name}: loss {outcome.start:.4f} to {outcome.loss:.4f}, {took:.0f} s", file=sys.stderr)
    yield (
        f"- {chosen.model}, {ROUNDS} rounds of {STEPS} inner steps of {BATCH} x {LENGTH} bytes a peer,"
        f" {chosen.codec}; sleepers are honest for {HONEST_ROUNDS} rounds before; seeds"
        f" {', '.join(map(str, chosen.seeds))}\n"
    )
    yield attack_table(wanted, results.done)
    yield "\n".join(["", *verdicts(wanted, results.done)])


def _cells(wanted: Sequence[Row]) -> Iterator[Cell]:
    """Each cell once, those of the honest peers alone first."""
    pairs = [pair for row in wanted for cells in row.cells.values() for pair in cells]
    yield from dict.fromkeys([alone for _, alone in pairs] + [cell for cell, _ in pairs])


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench attacks", description=__doc__)
    add_arguments(parser)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for part in attacks(parser.parse_args()):
        print(part, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
