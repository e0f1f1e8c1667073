"""Fetches from volunteers what a restart lacks and no archive has."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from barnraise.contract.records import wanted
from barnraise.core.errors import HashMismatch, Unreachable
from barnraise.core.ids import BlobHash, PublicKey
from barnraise.network.swarm import Swarm
from coordinator.messages.recovery import data_message, recovery_message
from coordinator.reasons.recovery import (
    AwaitingShards,
    AwaitingVolunteers,
    ContributionFile,
    EntryFile,
    FetchedFromVolunteer,
    NeededFile,
    ShardsFetched,
)
from coordinator.timing import TIMING, Timing

log = logging.getLogger("coordinator")


async def fetch_missing_files(files: Sequence[NeededFile], swarm: Swarm, timing: Timing = TIMING) -> None:
    """Fetch all of `files` into the store of `swarm`. Waits for as long as no volunteer has them."""
    missing = list(files)
    log.warning("%s", recovery_message(AwaitingVolunteers(tuple(missing))))
    while missing:
        holders = [PublicKey(presence.owner) for presence in await swarm.peers()]
        for file in list(missing):
            if holders and await _fetched(file, swarm, holders):
                log.info("%s", recovery_message(FetchedFromVolunteer(file)))
                missing.remove(file)
        if missing:
            await asyncio.sleep(timing.retry)


async def fetch_missing_shards(
    absent: Callable[[], Mapping[BlobHash, int]], swarm: Swarm, timing: Timing = TIMING
) -> None:
    """Fetch training data into the store of `swarm`. Waits for as long as no volunteer has it.

    absent: what is missing now, and the bytes that each blob has at most. Raises DiskFull.
    """
    if missing := await asyncio.to_thread(absent):
        log.warning("%s", data_message(AwaitingShards(len(missing))))
        while missing:
            holders = [PublicKey(presence.owner) for presence in await swarm.peers()]
            for name, limit in missing.items():
                with suppress(Unreachable, HashMismatch):
                    await swarm.fetch(name, limit, holders)
            if found := await asyncio.to_thread(absent):
                await asyncio.sleep(timing.retry)
            missing = found
        log.warning("%s", data_message(ShardsFetched()))


async def _fetched(file: NeededFile, swarm: Swarm, holders: Sequence[PublicKey]) -> bool:
    try:
        match file:
            case EntryFile(name):
                await swarm.fetch(name, file.limit, holders)
            case ContributionFile(commit):
                await swarm.fetch_pieces(wanted(commit), [PublicKey(commit.owner), *holders])
    except (Unreachable, HashMismatch) as error:
        log.debug("%s", error.problem)
        return False
    return True
