"""Which faults a run meets, in which order: a pure function of a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from scripts.chaos.cases import CASES, Case, Fault


@dataclass(frozen=True)
class Injection:
    """One fault of a run."""

    case: Case
    volunteer: int
    """Which volunteer it concerns: the target, or the one that joins where a volunteer has to."""
    fellows: int = 0
    """Other programs that are killed together with the target."""
    draw: int = 0
    """Seed of the choice of them."""


def schedule(
    seed: int, volunteers: int, cases: Sequence[Case] = CASES, fellows: int = 0
) -> tuple[Injection, ...]:
    """Each case once, in an order and with volunteers that `seed` determines."""
    draws = random.Random(seed)
    order = draws.sample(list(cases), len(cases))
    numbers = [draws.randrange(volunteers) for _ in order]
    return tuple(
        Injection(case, number, fellows if case.fault is Fault.KILL else 0, draws.randrange(2**32))
        for case, number in zip(order, numbers, strict=True)
    )


def endless(
    seed: int, volunteers: int, cases: Sequence[Case] = CASES, fellows: int = 0
) -> Iterator[Injection]:
    """Schedules of the seeds `seed`, `seed` + 1, and so on."""
    while True:
        yield from schedule(seed, volunteers, cases, fellows)
        seed += 1


def hands(seed: int, volunteers: int, size: int, cases: Sequence[Case] = CASES) -> list[list[Injection]]:
    """The schedule in runs of at most `size` faults."""
    every = schedule(seed, volunteers, cases)
    return [list(every[first : first + size]) for first in range(0, len(every), size)]
