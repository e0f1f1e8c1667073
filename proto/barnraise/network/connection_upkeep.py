"""Has the libp2p daemon keep the connections of admitted keys, and closes those of too many strangers."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

from barnraise.core.ids import PublicKey
from barnraise.network.connection_policy import connections_to_close
from barnraise.network.daemon import Daemon
from barnraise.network.key_access import Access
from barnraise.network.peer_guard import PeerGuard
from barnraise.network.timing import TIMING, Timing

log = logging.getLogger("barnraise.swarm")

WEIGHTS = {Access.ADMITTED: 100, Access.TRUSTED: 300, Access.RUN: 1000}
"""Of connections: the daemon closes those of the lowest weight where it has more than 512."""


@dataclass
class ConnectionUpkeep:
    """One node's."""

    daemon: Daemon
    guard: PeerGuard
    timing: Timing = TIMING
    _since: dict[PublicKey, float] = field(default_factory=dict)
    """When each stranger that is connected was seen first."""
    _preferred: dict[PublicKey, Access] = field(default_factory=dict)
    """The admitted keys that are connected, and what the daemon knows them as."""

    async def run(self) -> None:
        """Runs until it is cancelled."""
        while True:
            try:
                await asyncio.wait_for(self.step(), self.timing.daemon_answer)
            except (OSError, EOFError, asyncio.TimeoutError) as error:
                log.debug("the connections are not known: %s %s", type(error).__name__, error)
                self._preferred.clear()  # a daemon that starts again knows none
            await asyncio.sleep(self.timing.connection_check)

    async def step(self) -> None:
        """Look at the connections once. Raises OSError, EOFError."""
        connected = {key: places for key, places in await self.daemon.connected() if key is not None}
        access = {key: self.guard.access(key) for key in connected}
        now = asyncio.get_running_loop().time()
        strangers = {key: connected[key] for key in connected if access[key] is Access.STRANGER}
        self._since = {key: self._since.get(key, now) for key in strangers}
        for key in connections_to_close(strangers, self._since):
            self.daemon.drop(key)
        for key in connected:
            if access[key] is Access.BANNED:
                self.daemon.drop(key)
            elif key not in strangers and self._preferred.get(key) is not access[key]:
                await self.daemon.prefer(key, WEIGHTS[access[key]])
        self._preferred = {key: of for key, of in access.items() if of in WEIGHTS}
