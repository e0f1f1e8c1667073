"""When a node polls which entry of the DHT: at first use at once, later in the background and rarely."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random

from barnraise.contract.records import Record
from barnraise.contract.rounds import seconds_between
from barnraise.core.ids import Millis
from barnraise.core.signed import Signed
from barnraise.network.gossip_policy import poll_interval
from barnraise.network.timing import TIMING, Timing
from barnraise.runtime.peer_faults import PeerFaults

log = logging.getLogger("barnraise.swarm")

Lookup = Callable[[str, bool], Awaitable[list[Signed[Record]]]]
"""The DHT's entry at a key: its records, each checked. If true, the newest of all nodes that keep the
entry; if false, what the first of them answers."""


@dataclass
class _Poll:
    due: Millis
    """When to poll again."""
    running: asyncio.Task[None] | None = None


class DhtPoller:
    """Polls entries of the DHT, each at most once per interval, and passes on what it finds."""

    def __init__(
        self,
        look_up: Lookup,
        receive: Callable[[Signed[Record]], object],
        clock: Callable[[], Millis],
        random: Random,
        timing: Timing = TIMING,
    ) -> None:
        self._look_up, self._receive, self._clock = look_up, receive, clock
        self._random, self._timing = random, timing
        self._polls: dict[str, _Poll] = {}
        self._faults = PeerFaults(log)

    async def poll(
        self, key: str, *, readers: int, records: int, newest: bool = True, name: str = ""
    ) -> None:
        """Poll an entry if it is due. The first poll is awaited, later ones run in the background.

        readers, records: as `poll_interval` takes them. name: what is polled, where its key varies.
        Raises what an earlier poll in the background raised.
        """
        name, now = name or key, self._clock()
        poll = self._polls.get(name)
        if poll is not None and poll.running is not None and poll.running.done():
            poll.running.result()
            poll.running = None
        if poll is not None and (poll.running is not None or now < poll.due):
            return
        self._forget_expired(now)
        task = asyncio.create_task(self._run(key, newest))
        self._polls[name] = _Poll(self._next(readers, records), task)
        if poll is None:
            await asyncio.shield(task)

    async def poll_later(self, key: str, *, readers: int, records: int) -> None:
        """As `poll` with `newest` false, but the first poll waits for one interval."""
        if key in self._polls:
            await self.poll(key, readers=readers, records=records, newest=False)
        else:
            self._polls[key] = _Poll(self._next(readers, records))

    def close(self) -> None:
        """End the polls that are running."""
        for poll in self._polls.values():
            if poll.running is not None:
                poll.running.cancel()

    def _forget_expired(self, now: Millis) -> None:
        expiry = self._timing.poll_expiry
        self._polls = {
            name: poll for name, poll in self._polls.items() if seconds_between(poll.due, now) < expiry
        }

    def _next(self, readers: int, records: int) -> Millis:
        """When the next poll is due, spread so that not all nodes poll at once."""
        seconds = poll_interval(readers, records, self._timing.min_poll)
        return Millis(self._clock() + round(1000 * seconds * self._random.uniform(0.75, 1.25)))

    async def _run(self, key: str, newest: bool) -> None:
        with self._faults.contain("a poll of the DHT"):
            for signed in await self._look_up(key, newest):
                with self._faults.contain("a record of the DHT", signed.signer):
                    self._receive(signed)
