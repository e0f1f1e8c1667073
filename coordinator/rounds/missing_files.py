"""Fetches from volunteers what a restart lacks and no archive has."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from barnraise.contract.records import Presence, wanted
from barnraise.core.errors import HashMismatch, NetworkError, StateError, TrustError, Unreachable
from barnraise.core.ids import BlobHash, PublicKey
from barnraise.network.state_download import download_state, likely_holders, some_of
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
    missing, states_from = list(files), math.inf
    log.warning("%s", recovery_message(AwaitingVolunteers(tuple(missing)) if missing else AwaitingState()))
    while missing or later is not None:
        if present := await swarm.peers():
            now = asyncio.get_running_loop().time()
            states_from = min(states_from, now + timing.ask_holders if missing else now)
            is_late = now >= states_from
            if is_late and later is not None and await _state_fetched(later, swarm, present):
                return
            missing = await _still_missing(missing, swarm, present, math.inf if is_late else states_from)
            if files and not missing:
                return
        await asyncio.sleep(timing.retry)


async def _still_missing(
    files: Sequence[NeededFile], swarm: Swarm, present: Sequence[Presence], until: float
) -> list[NeededFile]:
    """Fetch files until a time of the event loop; those that are missing after that.

    The newest come first: of contributions, volunteers have those since the newest checkpoint.
    """
    missing = list(files)
    for file in reversed(files):
        if asyncio.get_running_loop().time() >= until:
            break
        if await _fetched(file, swarm, present):
            log.info("%s", recovery_message(FetchedFromVolunteer(file)))
            missing.remove(file)
    return missing


async def fetch_missing_shards(
    absent: Callable[[], Mapping[BlobHash, int]], swarm: Swarm, timing: Timing = TIMING
) -> None:
    """Fetch training data into the store of `swarm`. Waits for as long as no volunteer has it.

    absent: what is missing now, and the bytes that each blob has at most. Raises DiskFull.
    """
    if missing := await asyncio.to_thread(absent):
        log.warning("%s", data_message(AwaitingShards(len(missing))))
        while missing:
            present = await swarm.peers()
            holders = some_of(random.sample(present, len(present)), present)
            for name, limit in missing.items():
                with suppress(Unreachable, HashMismatch):
                    await swarm.fetch(name, limit, holders)
            if found := await asyncio.to_thread(absent):
                await asyncio.sleep(timing.retry)
            missing = found
        log.warning("%s", data_message(ShardsFetched()))


async def _state_fetched(later: LaterStates, swarm: Swarm, present: Sequence[Presence]) -> bool:
    """Whether one of the newest states is in the store now."""
    for named in later.named[:MOST_STATES]:
        try:
            having = likely_holders(present, named.tip)
            await download_state(later.wanted(named), swarm, later.blobs, having)
        except (NetworkError, TrustError, StateError) as error:
            log.debug("the state of round %d: %s", named.tip.round, error.problem)
            continue
        log.info("%s", recovery_message(StateFetched(named.tip.round)))
        return True
    return False


async def _fetched(file: NeededFile, swarm: Swarm, present: Sequence[Presence]) -> bool:
    try:
        match file:
            case EntryFile(name):
                having = _likely(present, lambda each: each.log is not None)
                await swarm.fetch(name, file.limit, having)
            case ContributionFile(commit):
                having = _likely(present, lambda each: each.keeps <= commit.round)
                await swarm.fetch_pieces(wanted(commit), [PublicKey(commit.owner), *having])
    except (Unreachable, HashMismatch) as error:
        log.debug("%s", error.problem)
        return False
    return True


def _likely(present: Sequence[Presence], has: Callable[[Presence], bool]) -> list[PublicKey]:
    """The volunteers that are asked: those that say they have a file first."""
    return some_of(sorted(present, key=lambda each: not has(each)), present)
