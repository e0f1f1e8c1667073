"""The port of the gRPC service: takes connections by fair shares, and passes their bytes to gRPC.

gRPC itself has no limit for an address and no deadline for the first byte: one client could hold all places,
and one that begins one TLS handshake after another all of a core. It listens on a port of loopback behind
this one, and learns the clients' addresses from here.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from barnraise.contract.endpoints import client_group
from barnraise.core.errors import Unreachable
from barnraise.core.places import SHARED, Places
from coordinator.call_limits import CallLimits, ConnectionRates

CHUNK = 16_384
BACKLOG = 512


@dataclass
class GuardedPort:
    """Connections of clients, each with one to gRPC. `listen` starts it."""

    limits: CallLimits
    _is_known: Callable[[str], bool] = lambda _: False
    """Whether an admitted key called from an address group lately."""
    _now: Callable[[], float] = time.monotonic
    _places: Places = field(init=False)
    _rates: ConnectionRates = field(init=False)
    _groups: dict[int, str] = field(default_factory=dict)
    """The address groups of clients, by the port from which their bytes reach gRPC. Each remains until its
    port is used again: gRPC answers calls whose connection has ended."""
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _listener: socket.socket | None = None
    _server: asyncio.Server | None = None

    def __post_init__(self) -> None:
        self._places = Places(self.limits.connections, self.limits.reserved_connections)
        self._rates = ConnectionRates(self.limits)

    def bind(self, host: str, port: int) -> int:
        """Returns the port. Raises Unreachable where it is not available."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._listener = socket.create_server(
                (host, port), family=family, backlog=BACKLOG, dualstack_ipv6=host == "::"
            )
        except OSError:
            raise Unreachable(
                f"cannot listen on {host}:{port}",
                fix="Is another coordinator running? Choose another --port.",
            ) from None
        return int(self._listener.getsockname()[1])

    async def pass_to(self, target: int) -> None:
        """Begin to take connections. target: gRPC's port on 127.0.0.1."""

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(self._admitted(reader, writer, target))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        self._server = await asyncio.start_server(accept, sock=self._listener, limit=CHUNK)

    async def stop(self) -> None:
        """Take no further connections, and end those that are there."""
        if self._server is not None:
            self._server.close()
        elif self._listener is not None:
            self._listener.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def group_of(self, peer: str) -> str:
        """The client's address group. peer: as gRPC names its client, such as ipv4:127.0.0.1:40000."""
        port = peer.rpartition(":")[2]
        return self._groups.get(int(port), SHARED) if port.isdecimal() else SHARED

    async def _admitted(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: int
    ) -> None:
        name = writer.get_extra_info("peername")
        group = client_group(name[0]) if name else SHARED
        is_known = self._is_known(group)
        if not (
            self._rates.take(group, self._now(), is_known=is_known)
            and self._places.enter(group, is_known=is_known)
        ):
            writer.transport.abort()
            return
        try:
            with suppress(OSError, asyncio.TimeoutError):
                await asyncio.wait_for(
                    self._relay(reader, writer, group, target), self.limits.connection_seconds
                )
        finally:
            writer.transport.abort()
            self._places.leave(group)

    async def _relay(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, group: str, target: int
    ) -> None:
        first = await asyncio.wait_for(reader.read(CHUNK), self.limits.first_bytes_seconds)
        if not first:
            return
        there, back = await asyncio.open_connection("127.0.0.1", target, limit=CHUNK)
        port = int(back.get_extra_info("sockname")[1])
        self._groups[port] = group
        copies = [asyncio.create_task(_copy(reader, back)), asyncio.create_task(_copy(there, writer))]
        try:
            back.write(first)
            await asyncio.wait(copies, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for copy in copies:
                copy.cancel()
            await asyncio.gather(*copies, return_exceptions=True)
            back.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass bytes on until the end of either side, and have all of them sent."""
    with suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()
