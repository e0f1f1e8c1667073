"""Starts hivemind's libp2p daemon: one that dies with us, and that others reach where that can be."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hivemind.p2p import P2P
from hivemind.p2p.p2p_daemon_bindings.utils import P2PDaemonError
from hivemind.utils.multiaddr import Multiaddr

from barnraise.core.errors import MalformedBlob
from barnraise.network import die_with_parent, nat
from barnraise.network.peer_ids import SOCKET_PREFIX

log = logging.getLogger("barnraise.swarm")

RELAY_TRIES = 4


class _OwnedP2P(P2P):
    """hivemind's P2P with a daemon that dies with us, and sockets that carry our process id."""

    _client_listen_maddr = None  # where `create` fails early, `__del__` looks for it
    _UNIX_SOCKET_PREFIX = f"/unix{tempfile.gettempdir()}/{SOCKET_PREFIX}{os.getpid()}-"

    @staticmethod
    def _make_process_args(*args: Any, **options: Any) -> list[str]:
        program: list[str] = P2P._make_process_args(*args, **options, **nat.daemon_flags(options))
        prefix = nat.command_prefix(options)
        return [
            sys.executable,
            "-I",
            "-S",
            str(die_with_parent.__file__),
            str(os.getpid()),
            *prefix,
            *program,
        ]


async def start_daemon(identity: Path, listen: str, bootstrap: Sequence[str], announce: Sequence[str]) -> P2P:
    """A daemon that joins by `bootstrap`, or that others join and are relayed by. Raises P2PDaemonError."""
    addresses = nat.both_transports(listen)
    told = [address for text in announce for address in nat.both_transports(text)]

    async def start() -> P2P:
        return await _OwnedP2P.create(
            identity_path=str(identity),
            check_if_identity_free=False,
            host_maddrs=addresses,
            announce_maddrs=told or None,
            initial_peers=list(bootstrap) or None,
            nat_port_map=False,
            **nat.p2p_options(bootstrap),
        )

    for _ in range(RELAY_TRIES):
        p2p = await start()
        if bootstrap or await _relays_enough(p2p, addresses if announce else []):
            return p2p
        await p2p.shutdown()
    log.warning("this relay cuts connections short: volunteers at home get contributions from us instead")
    return await start()


async def _relays_enough(p2p: P2P, listens: Sequence[str]) -> bool:
    """Whether blobs get through a relay that has just started. It cannot ask itself."""
    own = Multiaddr(f"/p2p/{p2p.peer_id}")
    found = listens or [str(address.decapsulate(own)) for address in await p2p.get_visible_maddrs()]
    asker = await _OwnedP2P.create(nat_port_map=False)
    try:
        await asker._client.connect(p2p.peer_id, [Multiaddr(text) for text in nat.local_addresses(found)])
        _, *stream = await asker.call_binary_stream_handler(p2p.peer_id, nat.HOP_PROTOCOL)
        return await nat.relayed_bytes(*stream) >= nat.RELAYED_BYTES
    except (P2PDaemonError, OSError, EOFError, asyncio.TimeoutError, MalformedBlob) as error:
        log.debug("the relay did not tell its limits: %s", error)
        return False
    finally:
        await asker.shutdown()
