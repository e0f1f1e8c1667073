"""The composition root of `coordinator serve`: from a run.toml and settings to a running session.

What is started is stopped in the reverse order, also where a later start fails.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import logging
import socket
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from barnraise.contract.charter import check_version
from barnraise.contract.invite import Invite
from barnraise.contract.spec import RunSpec
from barnraise.contract.spec_file import read_spec
from barnraise.core.errors import UserError
from barnraise.core.identity import Identity
from barnraise.core.ids import Millis, RunId
from barnraise.core.strict import Strict
from barnraise.gateway import listen
from barnraise.models.base_model import resolve
from barnraise.network.blobs.rate_limiter import Caps, RateLimiter
from barnraise.network.swarm import Swarm
from barnraise.runtime.blob_store import BlobStore
from barnraise.runtime.files import load_identity, owned_folder
from barnraise.runtime.stop_signals import on_stop_signals
from coordinator.checkpoints.publisher import Publisher, publisher_of
from coordinator.grpc_service import GatewayAddress
from coordinator.grpc_service import serve as serve_grpc
from coordinator.messages.setup import base_delivery
from coordinator.rounds.coordinator_api import CoordinatorApi
from coordinator.rounds.missing_files import fetch_missing_files
from coordinator.rounds.session import Session
from coordinator.run_folder import ARCHIVE, AUTHORITY_KEY, BLOBS, JOURNAL
from coordinator.setup.charter import check_unchanged
from coordinator.store.journal import Journal
from coordinator.store.restoring import CopiesNeeded
from coordinator.store.row_reader import find_charter
from coordinator.store.run_store import RunStore
from coordinator.timing import TIMING, Timing

log = logging.getLogger("coordinator")


class ServeSettings(Strict):
    """What may differ between machines and restarts: no part of the run spec."""

    host: str
    """IP address to listen on."""
    port: int
    """TCP port of the gRPC service."""
    http_port: int
    """TCP port of the HTTP gateway; 0 takes a free one."""
    http_url: str | None
    """Address of the gateway where it is not its own port, as behind a proxy with TLS."""
    mirrors: tuple[str, ...]
    """Addresses of other servers with a copy of the archive."""
    p2p_port: int
    """TCP port of the libp2p daemon; 0 takes a free one."""
    public_host: str | None
    """Name or address at which volunteers reach this machine; None: the address of its default route."""
    max_upload: int | None
    """Limit for the upload of blobs in bytes per second; None: no limit."""
    max_download: int | None
    """Limit for the download of the base model in bytes per second; None: no limit."""
    rehearsal_memory: int | None
    """Bytes that a new run's rehearsal may take; None: what is free."""


@dataclass(frozen=True)
class Serving:
    """A coordinator that volunteers can join."""

    invite: Invite
    url: str
    """Address of the HTTP gateway."""
    folder: Path
    rehearsed: bool
    """Whether one step was tried before the run began."""


def clock() -> Millis:
    """The run's clock: this machine's."""
    return Millis(time.time_ns() // 1_000_000)


async def serve(
    spec_path: Path,
    folder: Path,
    cache: Path,
    settings: ServeSettings,
    ready: Callable[[Serving], None],
    timing: Timing = TIMING,
) -> None:
    """Serve a run until SIGINT, SIGTERM or SIGHUP. ready: called once volunteers can join, unless the base
    model cannot be evaluated.
    """
    spec = read_spec(spec_path)
    _check(settings)
    stop = _stop_signal()
    async with AsyncExitStack() as stack:
        stack.enter_context(owned_folder(folder, "coordinator"))
        authority = load_identity(folder / AUTHORITY_KEY)
        journal = stack.enter_context(closing(Journal(folder / JOURNAL)))
        opened = functools.partial(_open_store, spec, spec_path, folder, cache, authority, journal, settings)
        while (store := await _opened_or_lacking(opened, authority, folder, settings, stop)) is None:
            if stop.is_set():
                return
        publisher = publisher_of(store, clock, settings.mirrors)
        if not await _unless_stopped(stop, publisher.try_base()):
            return
        if not await _unless_stopped(stop, _deliver_base(publisher)):
            return
        swarm = await _start_swarm(store.authority, store.charter.run, store.blobs, folder, settings)
        stack.push_async_callback(swarm.stop)
        session = Session(store, publisher, swarm, clock, await swarm.addresses(), timing)
        http = await listen(folder / ARCHIVE, settings.host, settings.http_port, settings.http_url)
        stack.push_async_callback(http.stop)
        api = CoordinatorApi(store, publisher, session, clock, timing)
        gateway = GatewayAddress(http.port, settings.http_url or "")
        server, port = await serve_grpc(api, settings.host, settings.port, gateway)
        stack.push_async_callback(server.stop, timing.stop)
        invite = Invite(_public_host(settings), port, store.charter.run, authority.public)
        ready(
            Serving(
                invite,
                settings.http_url or f"http://{invite.url_host}:{http.port}",
                folder,
                store.charter.rehearsed,
            )
        )
        await swarm.guard(session.run(stop))


async def _opened_or_lacking(
    opened: Callable[[], RunStore],
    authority: Identity,
    folder: Path,
    settings: ServeSettings,
    stop: asyncio.Event,
) -> RunStore | None:
    """The run store; None after what it lacks was fetched from volunteers, or when `stop` was set."""
    try:
        return await asyncio.to_thread(opened)
    except CopiesNeeded as needed:
        swarm = await _start_swarm(authority, needed.run, BlobStore(folder / BLOBS), folder, settings)
        try:
            await _unless_stopped(stop, swarm.guard(fetch_missing_files(needed.files, swarm)))
        finally:
            await swarm.stop()
        return None


async def _deliver_base(publisher: Publisher) -> None:
    """Put the base model into the archive, and log how volunteers get it."""
    log.info("%s", base_delivery(await publisher.publish_base()))


def _stop_signal() -> asyncio.Event:
    """An event that Ctrl-C, `kill` or a closed terminal sets."""
    stop = asyncio.Event()
    on_stop_signals(stop.set, stop.set)
    return stop


async def _unless_stopped(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do `work`; cancel it when `stop` is set first. Returns whether it was done. Raises what it raises."""
    tasks = [asyncio.create_task(work), asyncio.create_task(stop.wait())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    if tasks[0].cancelled():
        return False
    tasks[0].result()
    return True


def _open_store(
    spec: RunSpec,
    spec_path: Path,
    folder: Path,
    cache: Path,
    authority: Identity,
    journal: Journal,
    settings: ServeSettings,
) -> RunStore:
    """Charter a new run, or restore the one that the journal records."""
    limiter = RateLimiter(settings.max_download)
    charter = find_charter(journal.rows(), authority.public)
    if charter is None:
        from barnraise.rehearsal.runner import Limits, rehearse
        from coordinator.setup.prepare import prepare  # a resumed run needs no dataset builder

        rehearsing = functools.partial(rehearse, limits=Limits(memory=settings.rehearsal_memory))
        prepared = prepare(spec, authority.public, folder, cache, log.info, rehearsing, limiter)
        return RunStore.begin(
            authority, prepared.charter, prepared.genesis, prepared.base.path, folder, journal, clock()
        )
    check_version(charter)
    check_unchanged(charter.value, spec, spec_path)
    revision, files = charter.value.spec.model.revision, charter.value.model_files
    base = resolve(spec.model.source, revision, cache, expected=files, progress=log.info, limiter=limiter)
    return RunStore.restore(authority, charter, base.path, folder, journal, settings.mirrors)


async def _start_swarm(
    authority: Identity, run: RunId, blobs: BlobStore, folder: Path, settings: ServeSettings
) -> Swarm:
    """Where the p2p port is fixed, the public host is announced; a free port is announced as it is found."""
    port = settings.p2p_port
    return await Swarm.start(
        authority,
        run,
        authority.public,
        clock=clock,
        blobs=blobs,
        folder=folder,
        listen=_multiaddress(settings.host, port),
        announce=[_multiaddress(_public_host(settings), port)] if port else [],
        caps=Caps(up=settings.max_upload),
    )


def _check(settings: ServeSettings) -> None:
    """Raises UserError."""
    _check_host(settings.host)
    if settings.http_url is not None:
        _check_url(settings.http_url, "--http-url")
    for mirror in settings.mirrors:
        _check_url(mirror, "--mirror")


def _check_host(host: str) -> None:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise UserError(
            f"cannot listen on {host!r}: it is not an IP address",
            fix="Give --host an address of this machine, or 0.0.0.0 for all; names belong in --public-host.",
        ) from None


def _check_url(url: str, option: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise UserError(
            f"{url!r} is not the address of a web server",
            fix=f"Give {option} as in https://models.example.org.",
        )


def _multiaddress(host: str, port: int) -> str:
    try:
        kind = f"ip{ipaddress.ip_address(host).version}"
    except ValueError:
        kind = "dns4"
    return f"/{kind}/{host}/tcp/{port}"


def _public_host(settings: ServeSettings) -> str:
    return settings.public_host or _outward_address(settings.host)


def _outward_address(host: str) -> str:
    """The address of this machine on its default route; `host` itself where that is one address."""
    if not ipaddress.ip_address(host).is_unspecified:
        return host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: only asks the kernel for a route (RFC 5737)
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])
