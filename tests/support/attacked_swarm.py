"""Short runs of the smallest toy of `scripts/bench attacks`, for the tests of one attack each.

Three of eight peers attack. The real codec, weights, clipping, fold and audits; the bench has larger ones.
"""

from __future__ import annotations

from functools import cache

from scripts.benchmarks.attacks.defences import Arm
from scripts.benchmarks.attacks.kinds import Attack
from scripts.benchmarks.attacks.swarm import Cell, Outcome, run
from scripts.benchmarks.attacks.toys import Bigram
from scripts.benchmarks.attacks.verdicts import Kept, kept

HONEST, ATTACKERS = 5, 3
ROUNDS = 12
TOY = Bigram(width=8)


@cache
def outcome(cell: Cell) -> Outcome:
    """Of a run."""
    return run(cell, TOY)


def attacked(attack: Attack, arm: Arm, *, rounds: int = ROUNDS, sleepers: bool = False) -> Kept:
    """What is left of what the honest peers gain alone."""
    honest, attackers = (8, attack.keys) if attack.keys else (HONEST, ATTACKERS)
    cell = Cell(attack, honest, attackers, arm, 1, sleepers, model="bigram", rounds=rounds, honest_rounds=8)
    alone = Cell(None, honest, 0, "none", 1, sleepers, model="bigram", rounds=rounds, honest_rounds=8)
    return kept(outcome(cell), outcome(alone))
