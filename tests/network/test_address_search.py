"""When a volunteer exchanges addresses, and when it searches for its coordinator."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from barnraise.contract.records import Head, Presence
from barnraise.core.ids import Millis
from barnraise.core.signed import Signed
from barnraise.network.address_search import AddressSearch
from barnraise.network.timing import TIMING
from barnraise.runtime.run_clock import RunClock
from tests.support import parts, virtual_time
from tests.support.contacts import signed_head

TIMES = replace(TIMING, address_poll=5.0, longest_search=30.0, address_exchange=300.0)
SILENT = 15.0


@dataclass
class World:
    """The swarm, the upkeep and the coordinator of a volunteer; `log` has what they were asked, and when."""

    head_at: float | None = 0.0
    """When the newest head was signed; None: now, always."""
    answer_after: float = float("inf")
    """From then on the coordinator's API answers."""
    others: Sequence[object] = ()
    present: Sequence[Presence] = (parts.presence(parts.ADA), parts.presence(parts.BEN))
    own: str = parts.ADA.public
    log: list[tuple[str, float]] = field(default_factory=list)
    learned: list[Signed[Head]] = field(default_factory=list)

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def did(self, what: str) -> None:
        self.log.append((what, self.now()))

    def times(self, what: str) -> list[float]:
        return [at for done, at in self.log if done == what]

    # The swarm

    async def heads(self) -> list[Head]:
        at = self.now() if self.head_at is None else self.head_at
        return [parts.head(at=parts.NOW + round(1000 * at))]

    async def peers(self) -> Sequence[Presence]:
        return self.present

    def learn(self, head: Signed[Head]) -> None:
        self.learned.append(head)
        self.head_at = None

    # The upkeep

    async def follow_coordinator(self) -> None:
        self.did("follow")

    async def search(self) -> int:
        self.did("search")
        return 0

    async def exchange(self, others: Sequence[str]) -> None:
        assert others == [each.owner for each in self.present if each.owner != self.own]
        self.did("exchange")

    async def save(self) -> None:
        self.did("save")

    # The coordinator's API

    async def newest_head(self) -> Signed[Head] | None:
        return signed_head() if self.now() >= self.answer_after else None


def run(world: World, seconds: float) -> World:
    async def play() -> None:
        loop = asyncio.get_running_loop()
        clock = RunClock(lambda: Millis(round(1000 * loop.time())), lambda: parts.NOW)
        there = cast(Any, world)
        task = asyncio.create_task(AddressSearch(there, there, world.newest_head, clock, SILENT, TIMES).run())
        await asyncio.wait([task], timeout=seconds)
        assert not task.done()
        task.cancel()

    virtual_time.run(play())
    return world


def test_addresses_are_exchanged_more_often_until_enough_are_known() -> None:
    few = run(World(head_at=None), 700).times("exchange")
    assert [round(at) for at in few] == [0, 5, 15, 35, 75, 155, 315, 615]
    before_our_first_heartbeat = (parts.presence(parts.BEN),)
    assert run(World(head_at=None, present=before_our_first_heartbeat), 700).times("exchange") == few
    enough = run(World(head_at=None, others=["ben"]), 400).times("exchange")
    assert [round(at) for at in enough] == [0, 300]


def test_a_volunteer_that_sees_no_other_yet_exchanges_soon_again() -> None:
    """Else one whose first exchange precedes the heartbeats of others would know none for five minutes."""
    for present in ((), (parts.presence(parts.ADA),)):
        alone = run(World(head_at=None, present=present), 40).times("exchange")
        assert [round(at) for at in alone] == [0, 5, 15, 35]


def test_a_silent_coordinator_is_searched_for_with_growing_pauses() -> None:
    world = run(World(head_at=0.0), 200)
    searches = world.times("search")
    pauses = [after - before for before, after in itertools.pairwise(searches)]
    assert searches[0] > SILENT
    assert len(searches) >= 5
    assert max(pauses) <= TIMES.longest_search
    assert not [at for at in world.times("exchange") if at > searches[0]]


def test_a_head_from_the_api_ends_the_search() -> None:
    world = run(World(head_at=0.0, answer_after=60.0), 300)
    assert world.learned == [signed_head()]
    assert max(world.times("search")) <= 60.0 + TIMES.longest_search
    assert max(world.times("exchange")) > 60.0
