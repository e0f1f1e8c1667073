"""A coordinator dials the volunteers of its last start until some are there."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any, cast

from coordinator.addresses.upkeep import keep_addresses
from coordinator.timing import TIMING
from tests.support import virtual_time

TIMES = replace(TIMING, first_search=5.0, longest_search=60.0)
SWEEP = 4
"""Searches that dial all that are known."""


@dataclass
class Upkeep:
    searches: list[float] = field(default_factory=list)
    saves: int = 0
    others: tuple[str, ...] = ()

    async def search(self) -> int:
        self.searches.append(asyncio.get_running_loop().time())
        return 0

    async def save(self) -> None:
        self.saves += 1


def run(volunteers: int, seconds: float) -> Upkeep:
    upkeep = Upkeep()

    async def play() -> None:
        task = asyncio.create_task(keep_addresses(cast(Any, upkeep), lambda: volunteers, TIMES))
        await asyncio.wait([task], timeout=seconds)
        task.cancel()

    virtual_time.run(play())
    return upkeep


def test_it_dials_all_at_the_start_and_then_waits_longer_each_time() -> None:
    upkeep = run(0, 200)
    start, later = upkeep.searches[:SWEEP], upkeep.searches[SWEEP:]
    assert start == [start[0]] * SWEEP
    assert [round(at - start[0]) for at in later] == [5, 15, 35, 75, 135, 195]


def test_where_volunteers_are_it_only_saves_every_five_seconds() -> None:
    upkeep = run(2, 200)
    assert len(upkeep.searches) == SWEEP
    assert upkeep.saves == 39
