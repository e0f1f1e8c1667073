"""Fetches from volunteers what a restart lacks and no archive has."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from barnraise.contract.records import wanted
from barnraise.core.errors import HashMismatch, NetworkError, StateError, TrustError, Unreachable
from barnraise.core.ids import BlobHash, PublicKey
from barnraise.network.state_download import download_state
from barnraise.network.swarm import Swarm
from coordinator.messages.recovery import data_message, recovery_message
from coordinator.reasons.recovery import (
    AwaitingShards,
    AwaitingState,
    AwaitingVolunteers,
    ContributionFile,
    EntryFile,
    FetchedFromVolunteer,
    NeededFile,
    ShardsFetched,
    StateFetched,
)
from coordinator.store.later_states import LaterStates
from coordinator.timing import TIMING, Timing

log = logging.getLogger("coordinator")

MOST_STATES = 16
"""Rounds whose states are asked for: a volunteer has its newest one, and the one before."""


async def fetch_missing_files(
    files: Sequence[NeededFile], swarm: Swarm, timing: Timing = TIMING, later: LaterStates | None = None
) -> None:
    """Fetch all of `files` into the store of `swarm`. Waits for as long as no volunteer has them.

    later: states from which the run continues without the files. One is fetched where volunteers have been
    here for `timing.ask_holders` and some file is still missing: its owner may come back.
    """
    missing, asked = list(files), 0.0
    log.warning("%s", recovery_message(AwaitingVolunteers(tuple(missing)) if missing else AwaitingState()))
    while True:
        holders = [PublicKey(presence.owner) for presence in await swarm.peers()]
        for file in list(missing):
            if holders and await _fetched(file, swarm, holders):
                log.info("%s", recovery_message(FetchedFromVolunteer(file)))
                missing.remove(file)
        if files and not missing:
            return
        in_time = missing and asked < timing.ask_holders
        if holders and later is not None and not in_time and await _state_fetched(later, swarm, holders):
            return
        await asyncio.sleep(timing.retry)
        asked += timing.retry if holders else 0.0


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


async def _state_fetched(later: LaterStates, swarm: Swarm, holders: Sequence[PublicKey]) -> bool:
    """Whether one of the newest states is in the store now."""
    for named in later.named[:MOST_STATES]:
        try:
            await download_state(later.wanted(named), swarm, later.blobs, holders)
        except (NetworkError, TrustError, StateError) as error:
            log.debug("the state of round %d: %s", named.tip.round, error.problem)
            continue
        log.info("%s", recovery_message(StateFetched(named.tip.round)))
        return True
    return False


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
