"""When DHT entries are polled, and that past ones are forgotten."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

import pytest

from barnraise.contract.records import Record
from barnraise.core.ids import Millis
from barnraise.core.signed import Signed
from barnraise.network.dht_poller import DhtPoller
from barnraise.network.timing import TIMING


@dataclass
class FakeDht:
    """Answers look-ups once `answering` is set."""

    now: int = 0
    polled: list[str] = field(default_factory=list)
    answering: asyncio.Event = field(default_factory=asyncio.Event)
    failure: OSError | None = None

    async def look_up(self, key: str, newest: bool) -> list[Signed[Record]]:
        self.polled.append(key)
        await self.answering.wait()
        if self.failure is not None:
            raise self.failure
        return []

    def poller(self) -> DhtPoller:
        return DhtPoller(self.look_up, lambda _: None, lambda: Millis(self.now), random.Random(0))

    def advance(self, seconds: float) -> None:
        self.now += round(1000 * seconds)


def test_the_first_poll_is_awaited_and_later_ones_run_in_the_background() -> None:
    async def scene() -> None:
        dht = FakeDht()
        poller = dht.poller()
        first = asyncio.create_task(poller.poll("head", readers=1, records=1))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not first.done()
        dht.answering.set()
        await first
        dht.answering.clear()
        dht.advance(2 * TIMING.min_poll)
        await poller.poll("head", readers=1, records=1)
        await asyncio.sleep(0)
        assert dht.polled == ["head", "head"]
        dht.advance(2 * TIMING.min_poll)
        await poller.poll("head", readers=1, records=1)
        assert dht.polled == ["head", "head"], "one poll at a time"
        poller.close()

    asyncio.run(scene())


def test_an_error_in_the_background_is_raised_by_the_next_poll() -> None:
    async def scene() -> None:
        dht = FakeDht()
        dht.answering.set()
        poller = dht.poller()
        await poller.poll("head", readers=1, records=1)
        dht.failure = ConnectionError("the daemon has ended")
        dht.advance(2 * TIMING.min_poll)
        await poller.poll("head", readers=1, records=1)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        with pytest.raises(ConnectionError):
            await poller.poll("head", readers=1, records=1)

    asyncio.run(scene())


def test_past_entries_are_forgotten() -> None:
    async def scene() -> None:
        dht = FakeDht()
        dht.answering.set()
        poller = dht.poller()
        for round in range(20):
            await poller.poll(f"commits/{round}", readers=1, records=1)
            dht.advance(TIMING.poll_expiry / 2)
        assert len(poller._polls) <= 3

    asyncio.run(scene())
