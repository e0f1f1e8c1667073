"""The gateway on a port: uvicorn in our own event loop, with an end to askers that keep it waiting."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from barnraise.core.errors import Unreachable
from barnraise.gateway.app import GatewayApp

MAX_CONNECTIONS = 512
"""More askers get a 503; at twice as many nobody is let in."""
ASK_SECONDS = 20.0
"""From a connection, or the beginning of a request on it, to that request's end."""
STALL_SECONDS = 60.0
"""A reader that takes less than a chunk in this time is hung up on."""
MAX_HEADER_BYTES = 16 * 1024
BACKLOG = 256


class Connection(H11Protocol):
    """Hangs up on whoever does not ask, or does not read."""

    _asks: asyncio.TimerHandle
    _reads: asyncio.TimerHandle

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.access_log = False  # whoever listens: requests carry tokens
        transport.set_write_buffer_limits(0)  # writing goes on when what was written has left
        self._asks = self._reads = self._hang_up_in(ASK_SECONDS)
        if len(self.connections) > 2 * MAX_CONNECTIONS:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        answering: RequestResponseCycle | None = self.cycle
        if answering is not None and not answering.response_complete:
            self._asks.cancel()
        elif self._asks.cancelled():  # another request has begun to come in
            self._asks = self._hang_up_in(ASK_SECONDS)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._reads = self._hang_up_in(STALL_SECONDS)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._reads.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        self._asks.cancel()
        self._reads.cancel()
        super().connection_lost(exc)

    def _hang_up_in(self, seconds: float) -> asyncio.TimerHandle:
        return self.loop.call_later(seconds, self.transport.abort)


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the program's."""
        yield


@dataclass(frozen=True)
class RunningGateway:
    port: int
    _app: GatewayApp
    _server: _Server
    _task: asyncio.Task[Any]

    async def stop(self) -> None:
        """Downloads that go on are cut: their clients resume them. Raises what the server died of."""
        self._server.should_exit = True
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()
        await self._task
        self._app.close()


async def listen(folder: Path, host: str, port: int, url: str | None = None) -> RunningGateway:
    """Serve an archive folder; port 0 takes a free one. url: as of `GatewayApp`.

    Raises Unreachable when the port cannot be had.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        door = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise Unreachable(
            f"cannot listen on {host}:{port}: {error.strerror}",
            fix="Is another server running? Choose another --http-port.",
        ) from None
    app = GatewayApp(folder, url)
    config = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        proxy_headers=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        backlog=BACKLOG,
        timeout_graceful_shutdown=1,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve([door]))
    return RunningGateway(int(door.getsockname()[1]), app, server, task)
