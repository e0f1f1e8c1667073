"""Which faults a run meets, in which order: a pure function of a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from scripts.chaos.cases import CASES, Case


@dataclass(frozen=True)
class Injection:
    """One fault of a run."""

    case: Case
    volunteer: int
    """Which volunteer it concerns: the target, or the one that joins where a volunteer has to."""


def schedule(seed: int, volunteers: int, cases: Sequence[Case] = CASES) -> tuple[Injection, ...]:
    """Each case once, in an order and with volunteers that `seed` determines."""
    draws = random.Random(seed)
    order = draws.sample(list(cases), len(cases))
    return tuple(Injection(case, draws.randrange(volunteers)) for case in order)


def endless(seed: int, volunteers: int, cases: Sequence[Case] = CASES) -> Iterator[Injection]:
    """Schedules of the seeds `seed`, `seed` + 1, and so on."""
    while True:
        yield from schedule(seed, volunteers, cases)
        seed += 1


def hands(seed: int, volunteers: int, size: int, cases: Sequence[Case] = CASES) -> list[list[Injection]]:
    """The schedule in runs of at most `size` faults."""
    every = schedule(seed, volunteers, cases)
    return [list(every[first : first + size]) for first in range(0, len(every), size)]
