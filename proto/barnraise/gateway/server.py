"""The gateway on a port: uvicorn in the program's event loop, with timeouts for requests and readers."""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from barnraise.contract.endpoints import client_group
from barnraise.core.errors import Unreachable
from barnraise.core.places import SHARED, Places
from barnraise.gateway.app import GatewayApp
from barnraise.gateway.limits import LIMITS, GatewayLimits

MAX_HEADER_BYTES = 16 * 1024
BACKLOG = 256


class TimedConnection(H11Protocol):
    """An HTTP/1.1 connection that is closed when the client sends no request, or reads no response, in time.

    It relies on uvicorn's internal protocol class, so an update of uvicorn may require a change here.
    """

    _request_timer: asyncio.TimerHandle
    _read_timer: asyncio.TimerHandle

    def __init__(self, *args: Any, limits: GatewayLimits, places: Places, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._limits, self._places = limits, places
        self._group: str | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.access_log = False  # also at a verbose log level: requests carry tokens
        transport.set_write_buffer_limits(0)  # writing continues when the last chunk has left
        self._request_timer = self._read_timer = self._close_after(self._limits.request_seconds)
        peer = transport.get_extra_info("peername")
        group = client_group(peer[0] if peer else "")
        if self._places.enter(group, is_known=group == SHARED):
            self._group = group
        else:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete:
            self._request_timer.cancel()
        elif self._request_timer.cancelled():  # the first bytes of another request
            self._request_timer = self._close_after(self._limits.request_seconds)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._read_timer = self._close_after(self._limits.stall_seconds)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._read_timer.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        self._request_timer.cancel()
        self._read_timer.cancel()
        if self._group is not None:
            self._places.leave(self._group)
            self._group = None
        super().connection_lost(exc)

    def _close_after(self, seconds: float) -> asyncio.TimerHandle:
        return self.loop.call_later(seconds, self.transport.abort)


class _Server(uvicorn.Server):
    @property
    def connections(self) -> set[Any]:
        """Open connections, as uvicorn's protocol objects."""
        return self.server_state.connections

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the program."""
        yield


@dataclass(frozen=True)
class RunningGateway:
    """A gateway that serves requests until `stop`."""

    port: int
    _app: GatewayApp
    _server: _Server
    _task: asyncio.Task[Any]

    async def stop(self) -> None:
        """Close all connections; clients resume their downloads. Raises the error that ended the server."""
        self._server.should_exit = True
        for connection in list(self._server.connections):
            connection.transport.abort()
        await self._task
        self._app.close()


def _places(limits: GatewayLimits) -> Places:
    """Others than a proxy on this machine never take all, which would answer requests with a 503."""
    return Places(2 * limits.max_connections, reserved=limits.max_connections)


async def listen(
    folder: Path, host: str, port: int, url: str | None = None, limits: GatewayLimits = LIMITS
) -> RunningGateway:
    """Serve an archive folder; port 0 takes a free one. url: as of `GatewayApp`.

    Raises Unreachable when the port cannot be used.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server(
            (host, port), family=family, backlog=BACKLOG, dualstack_ipv6=host == "::"
        )
    except OSError as error:
        raise Unreachable(
            f"cannot listen on {host}:{port}: {error.strerror}",
            fix="Is another server running? Choose another --http-port.",
        ) from None
    app = GatewayApp(folder, url, limits)
    config = uvicorn.Config(
        app,
        http=functools.partial(TimedConnection, limits=limits, places=_places(limits)),  # type: ignore[arg-type]
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        proxy_headers=False,
        server_header=False,
        limit_concurrency=limits.max_connections,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        backlog=BACKLOG,
        timeout_graceful_shutdown=1,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve([listener]))
    return RunningGateway(int(listener.getsockname()[1]), app, server, task)
