"""A coordinator finds the volunteers of its last start, wherever it is now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from barnraise.network.address_book import MAX_CONTACTS
from barnraise.network.address_upkeep import AddressUpkeep
from barnraise.network.swarm import MAX_DIALS
from coordinator.timing import Timing


async def keep_addresses(upkeep: AddressUpkeep, volunteers: Callable[[], int], timing: Timing) -> None:
    """Dial the volunteers that are known, all at the start and again while none is connected, and save the
    addresses of those that come. Runs until it is cancelled. volunteers: how many are connected.
    """
    for _ in range(-(-MAX_CONTACTS // MAX_DIALS)):
        await upkeep.search()
    pause = timing.first_search
    while True:
        await asyncio.sleep(pause)
        if volunteers():
            pause = timing.longest_search
        else:
            await upkeep.search()
            pause = min(2 * pause, timing.longest_search)
        await upkeep.save()
