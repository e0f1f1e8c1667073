"""The servers of `coordinator serve` and `follow`: the gRPC service, and the archive over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from barnraise.gateway import listen
from barnraise.network.tls.certificates import issue
from coordinator.addresses.announced import Bound
from coordinator.addresses.listening import ListenSettings
from coordinator.grpc_service import serve as serve_grpc
from coordinator.rounds.coordinator_api import CoordinatorApi
from coordinator.rounds.session import Session
from coordinator.run_folder import ARCHIVE


@asynccontextmanager
async def serving(session: Session, settings: ListenSettings, bound: Bound) -> AsyncIterator[None]:
    """Let volunteers join the session's run, and let others download its archive. Raises MachineError."""
    store, timing = session.store, session.timing
    async with AsyncExitStack() as stack:
        http = await listen(store.folder / ARCHIVE, bound.host, bound.http_port, settings.http_url)
        stack.push_async_callback(http.stop)
        api = CoordinatorApi(store, session.publisher, session, session.clock, timing)
        successors = store.snapshot.position.successors
        certificate = issue(store.authority, store.charter.run, successors) if settings.tls else None
        server, _ = await serve_grpc(api, bound.host, bound.port, certificate)
        stack.push_async_callback(server.stop, timing.stop)
        yield
