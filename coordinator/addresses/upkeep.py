"""A coordinator finds the volunteers of its last start, wherever it is now."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from barnraise.network.address_book import MAX_CONTACTS
from barnraise.network.address_upkeep import AddressUpkeep
from barnraise.network.swarm import MAX_DIALS
from coordinator.timing import Timing

log = logging.getLogger("coordinator")


async def keep_addresses(upkeep: AddressUpkeep, volunteers: Callable[[], int], timing: Timing) -> None:
    """Dial the volunteers that are known, all at the start and again while none is connected, and save the
    addresses of those that come. Runs until it is cancelled. volunteers: how many are connected.
    """
    for _ in range(-(-MAX_CONTACTS // MAX_DIALS)):
        await upkeep.search()
    pause = due = timing.first_search
    shown = False
    while True:
        await asyncio.sleep(timing.first_search)
        due -= timing.first_search
        if volunteers():
            pause = due = timing.longest_search
        elif due <= 0:
            await upkeep.search()
            pause = due = min(2 * pause, timing.longest_search)
        await upkeep.save()
        if not shown and (known := len(upkeep.others)):
            shown = True
            log.info("the addresses of %d volunteers are saved: they are dialled where this moves", known)
