"""The composition root of `coordinator serve`: from a run.toml and settings to a running session."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from barnraise.contract.invite import Invite
from barnraise.contract.spec import RunSpec
from barnraise.contract.spec_file import read_spec
from barnraise.core.errors import UserError
from barnraise.core.identity import Identity
from barnraise.core.ids import Millis
from barnraise.core.strict import Strict
from barnraise.gateway import listen
from barnraise.models.base_model import resolve
from barnraise.network.blobs.token_bucket import Caps
from barnraise.network.swarm import Swarm
from barnraise.runtime.files import clear_scratch, load_identity, owned_folder
from coordinator.checkpoints.publisher import publisher_of
from coordinator.grpc_service import Gateway
from coordinator.grpc_service import serve as serve_grpc
from coordinator.rounds.session import Session
from coordinator.run_folder import ARCHIVE, AUTHORITY_KEY, JOURNAL
from coordinator.setup.charter import check_unchanged, prepare
from coordinator.store.journal import Journal
from coordinator.store.row_reader import find_charter
from coordinator.store.run_store import RunStore

log = logging.getLogger("coordinator")

STOP_SECONDS = 2.0
"""Grace that gRPC calls get when the program ends."""


class ServeSettings(Strict):
    """What may differ between machines: not part of the run spec."""

    host: str
    """Address to listen on."""
    port: int
    """TCP port of the gRPC service."""
    http_port: int
    """TCP port of the HTTP gateway; 0 takes a free one."""
    http_url: str | None
    """Under which the gateway is reached where that is not its own port, as behind a proxy with TLS."""
    mirrors: tuple[str, ...]
    """Addresses of other servers with a copy of the archive."""
    p2p_port: int
    """TCP port of the libp2p daemon; 0 takes a free one."""
    public_host: str | None
    """Name or address under which volunteers reach this machine; found out where it is None."""
    max_upload: int | None
    """Bytes a second of blobs to send at most; None: no limit."""


@dataclass(frozen=True)
class Serving:
    """What the world needs to know of a coordinator that is up."""

    invite: Invite
    url: str
    """Of the HTTP gateway."""
    folder: Path


def clock() -> Millis:
    return Millis(time.time_ns() // 1_000_000)


async def serve(
    spec_path: Path, folder: Path, cache: Path, settings: ServeSettings, ready: Callable[[Serving], None]
) -> None:
    """Serve a run until SIGINT or SIGTERM; `ready` is told the invite once volunteers can join."""
    spec = read_spec(spec_path)
    _check_host(settings.host)
    if settings.http_url is not None:
        _check_url(settings.http_url, "--http-url")
    for mirror in settings.mirrors:
        _check_url(mirror, "--mirror")
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with owned_folder(folder, "coordinator"):
        clear_scratch(folder)
        authority = load_identity(folder / AUTHORITY_KEY)
        journal = Journal(folder / JOURNAL)
        try:
            store = await asyncio.to_thread(_open_store, spec, spec_path, folder, cache, authority, journal)
            public = settings.public_host or _outward_address(settings.host)
            swarm = await Swarm.start(
                authority,
                store.charter.run,
                authority.public,
                clock=clock,
                blobs=store.blobs,
                folder=folder,
                listen=_multiaddress(settings.host, settings.p2p_port),
                announce=[_multiaddress(public, settings.p2p_port)] if settings.p2p_port else [],
                caps=Caps(up=settings.max_upload),
            )
            try:
                session = Session(
                    store, publisher_of(store, clock, settings.mirrors), swarm, clock, await swarm.addresses()
                )
                http = await listen(folder / ARCHIVE, settings.host, settings.http_port, settings.http_url)
                try:
                    gateway = Gateway(http.port, settings.http_url or "")
                    server, port = await serve_grpc(session, settings.host, settings.port, gateway)
                    try:
                        invite = Invite(public, port, store.charter.run, authority.public)
                        url = settings.http_url or f"http://{invite.url_host}:{http.port}"
                        ready(Serving(invite, url, folder))
                        await swarm.guard(session.run(stop))
                    finally:
                        await server.stop(STOP_SECONDS)
                finally:
                    await http.stop()
            finally:
                await swarm.stop()
        finally:
            journal.close()


def _open_store(
    spec: RunSpec, spec_path: Path, folder: Path, cache: Path, authority: Identity, journal: Journal
) -> RunStore:
    """Charter a new run, or go on with the one in the journal."""
    signed = find_charter(journal.rows(), authority.public)
    if signed is None:
        prepared = prepare(spec, authority.public, folder, cache, log.info)
        return RunStore.begin(
            authority, prepared.charter, prepared.genesis, prepared.base.path, folder, journal, clock()
        )
    charter = signed.value
    check_unchanged(charter, spec, spec_path)
    base = resolve(
        spec.model.source, charter.spec.model.revision, cache, expected=charter.model_files, progress=log.info
    )
    return RunStore.restore(authority, signed, base.path, folder, journal)


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
            f"{url!r} is no address of a web server",
            fix=f"Give {option} as in https://models.example.org.",
        )


def _multiaddress(host: str, port: int) -> str:
    try:
        kind = f"ip{ipaddress.ip_address(host).version}"
    except ValueError:
        kind = "dns4"
    return f"/{kind}/{host}/tcp/{port}"


def _outward_address(host: str) -> str:
    """The address by which this machine talks to others; `host` itself unless that is "any"."""
    if not ipaddress.ip_address(host).is_unspecified:
        return host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: only asks the kernel for a route (RFC 5737)
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])
