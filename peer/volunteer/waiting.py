"""Waiting for what may pass: a network that is down, a coordinator that is away, a full disk."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from barnraise.core.backoff import backoff_seconds, growing_seconds
from barnraise.core.errors import BarnraiseError, DiskFull, StateError
from barnraise.runtime.peer_faults import as_malformed
from peer.timing import Timing
from peer.volunteer.faults import Fate, fate_of

log = logging.getLogger("peer")

V = TypeVar("V")
Loop = Callable[[], Awaitable[None]]
"""Work that goes on until it is cancelled."""


@dataclass
class Patience:
    """Waits between attempts, and logs a fault that lasts once and then rarely."""

    timing: Timing
    _fault: type[BarnraiseError] | None = None
    _logged: float = 0.0
    """When the fault was logged, on the event loop's clock."""
    _attempts: int = 0
    """Failed attempts in a row."""
    _now: asyncio.Event = field(default_factory=asyncio.Event)
    """Ends the pause before the next attempt."""

    async def wait_out(self, error: BarnraiseError) -> None:
        """Pause before the next attempt. Raises `error` where it ends the program (`faults`)."""
        if fate_of(error) is Fate.ENDS:
            raise error
        now = asyncio.get_running_loop().time()
        news = type(error) is not self._fault or now - self._logged >= self.timing.repeat
        log.log(logging.WARNING if news else logging.DEBUG, "%s; trying again", error.problem)
        if news:
            self._fault, self._logged = type(error), now
        first = _pause(error, self.timing)
        longest = max(first, self.timing.longest_retry)
        seconds = growing_seconds(self._attempts, first=first, longest=longest)
        self._attempts += 1
        self._now.clear()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._now.wait(), seconds)

    def end_pause(self) -> None:
        """The cause may be over: the next attempt begins now, and pauses are short again."""
        self._attempts = 0
        self._now.set()

    def over(self) -> None:
        """An attempt has succeeded."""
        if self._fault is not None:
            log.info("that works again")
        self._fault, self._attempts = None, 0


def _pause(error: BarnraiseError, timing: Timing) -> float:
    match error:
        case DiskFull():
            return timing.disk_retry
        case StateError():
            return timing.state_retry
        case _:
            return timing.retry


async def until_done(work: Callable[[], Awaitable[V]], timing: Timing) -> V:
    """Do `work` until it succeeds. Raises what ends the program."""
    patience = Patience(timing)
    while True:
        try:
            with as_malformed("following the run", log):
                done = await work()
        except BarnraiseError as error:
            await patience.wait_out(error)
        else:
            patience.over()
            return done


async def until_stored(work: Callable[[], V], timing: Timing) -> V:
    """Do `work`, which writes to the disk, in a thread until the disk has space."""
    return await until_done(lambda: asyncio.to_thread(work), timing)


async def persist(
    work: Callable[[], Awaitable[V]],
    seed: str,
    timing: Timing,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> V:
    """As `until_done`, while the program starts: each pause is shown, and grows up to `timing.longest_wait`.

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
