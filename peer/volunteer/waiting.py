"""Waiting for what may pass: a network that is down, a coordinator that is away, a full disk."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from barnraise.core.errors import BarnraiseError, DiskFull
from peer.backoff import backoff_seconds
from peer.timing import Timing
from peer.volunteer.faults import Fate, fate_of

log = logging.getLogger("peer")

V = TypeVar("V")


async def wait_out(error: BarnraiseError, timing: Timing) -> None:
    """Log `error`, and pause before the next attempt. Raises it where it ends the program (`faults`)."""
    if fate_of(error) is Fate.ENDS:
        raise error
    seconds = timing.disk_retry if isinstance(error, DiskFull) else timing.retry
    log.warning("%s; trying again", error.problem)
    await asyncio.sleep(seconds)


async def forever(work: Callable[[], Awaitable[V]], timing: Timing) -> V:
    """Do `work` until it succeeds. Raises what ends the program."""
    while True:
        try:
            return await work()
        except BarnraiseError as error:
            await wait_out(error, timing)


async def until_stored(work: Callable[[], V], timing: Timing) -> V:
    """Do `work`, which writes to the disk, in a thread until the disk has space."""
    while True:
        try:
            return await asyncio.to_thread(work)
        except DiskFull as error:
            await wait_out(error, timing)


async def persist(
    work: Callable[[], Awaitable[V]],
    seed: str,
    timing: Timing,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> V:
    """Do `work` until it succeeds, with pauses that grow. Raises what ends the program.

    seed: differs between volunteers (`backoff_seconds`).
    """
    kind: type[BarnraiseError] | None = None
    for attempt in itertools.count():
        try:
            return await work()
        except BarnraiseError as error:
            if fate_of(error) is Fate.ENDS:
                raise
            first, longest = timing.first_wait, timing.longest_wait
            seconds = backoff_seconds(seed, attempt, first=first, longest=longest)
            log.warning("%s. Trying again in %.0f s; Ctrl-C ends", error.problem, seconds)
            if type(error) is not kind:
                log.info("%s", error.fix)
            kind = type(error)
            await sleep(seconds)
    raise AssertionError("unreachable")
