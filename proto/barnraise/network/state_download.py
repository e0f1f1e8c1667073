"""Fetches a state by its hash from any holders (`barnraise.contract.state_index`)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from barnraise.contract.records import Presence
from barnraise.contract.state_index import MAX_STATE_INDEX_BYTES, StateTensor, WantedState, read_index
from barnraise.contract.tip import Tip
from barnraise.core.ids import PublicKey
from barnraise.network.swarm import Swarm
from barnraise.runtime.blob_store import BlobStore
from barnraise.runtime.waits import all_or_none

AT_ONCE = 4
"""Tensors fetched in parallel."""
MOST_ASKED = 32
"""Volunteers that are asked for one file or state: each of them has two states."""


def likely_holders(present: Sequence[Presence], tip: Tip) -> list[PublicKey]:
    """The volunteers that are asked for the state of `tip`. present: as of `Swarm.peers`.

    Those that train from it are first. Those that left it last are next: they have it as the one before.
    """
    order = sorted(present, key=lambda each: (each.state != tip.state, each.round < tip.round, each.round))
    return some_of(order, present)


def some_of(likely: Iterable[Presence], present: Sequence[Presence]) -> list[PublicKey]:
    """Half of those that are asked are the likely ones, which say so themselves, and half the first ones.

    present: as of `Swarm.peers`, trusted ones first: any number of keys may claim to hold a file.
    """
    order, half = [PublicKey(each.owner) for each in likely], MOST_ASKED // 2
    first = [PublicKey(each.owner) for each in present[:half]]
    return [*dict.fromkeys([*order[:half], *first, *order])][:MOST_ASKED]


async def download_state(
    wanted: WantedState, swarm: Swarm, blobs: BlobStore, holders: Sequence[PublicKey]
) -> None:
    """Get all blobs of a state into the store. What arrived before a failure is not fetched again.

    Raises Unreachable where no holder serves all of it, MalformedBlob, FileDamaged, DiskFull.
    """
    await swarm.fetch(wanted.index, MAX_STATE_INDEX_BYTES, holders)
    tensors = read_index(await asyncio.to_thread(blobs.get, wanted.index), wanted)
    gate = asyncio.Semaphore(AT_ONCE)

    async def fetch(tensor: StateTensor) -> None:
        async with gate:
            await swarm.fetch(tensor.blob, tensor.size, holders)

    # After a failure another state is fetched, and this one is removed.
    await all_or_none(*(fetch(each) for each in {each.blob: each for each in tensors}.values()))
