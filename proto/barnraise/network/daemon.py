"""hivemind's libp2p daemon: ends with this process, and is reachable by other nodes where that is
possible."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hivemind.p2p import P2P, PeerID
from hivemind.p2p.p2p_daemon_bindings.utils import P2PDaemonError
from hivemind.utils.logging import use_hivemind_log_handler
from hivemind.utils.multiaddr import Multiaddr

from barnraise.core.errors import MachineError, MalformedBlob, Unreachable
from barnraise.core.ids import PublicKey
from barnraise.network import daemon_calls, die_with_parent, nat
from barnraise.network.bound_ports import check_bound
from barnraise.network.daemon_failure import (
    DaemonEnded,
    DaemonFailure,
    DaemonHangs,
    no_node_answered,
    quiet_about,
)
from barnraise.network.node_addresses import peer_of, place_of
from barnraise.network.peer_ids import key_of, peer_id_bytes
from barnraise.network.socket_folder import remove_stale_sockets, socket_folder
from barnraise.network.streams import Stream, end_stream
from barnraise.network.timing import TIMING, Timing

log = logging.getLogger("barnraise.swarm")

RELAY_TRIES = 4
MAX_MESSAGE_BYTES = 2**19
"""Of a message of the DHT, the only ones that hivemind receives. The daemon reads no larger one."""
UNANSWERED = 2
"""Questions in a row without an answer, after which the daemon hangs: the machine may pause during one."""
Handler = Callable[[PublicKey, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""Serves an incoming stream: the peer's key, and the stream."""


class _SocketPrefix:
    """What hivemind's sockets begin with: their folder is made when the first daemon starts."""

    def __get__(self, _: object, __: type) -> str:
        return f"/unix{socket_folder()}/"


class _ChildP2P(P2P):
    """hivemind's P2P with a daemon that ends with this process, and sockets in a folder of its own."""

    _client_listen_maddr = None  # where `create` fails early, `__del__` reads it
    _UNIX_SOCKET_PREFIX = _SocketPrefix()

    @staticmethod
    def _make_process_args(*args: Any, **options: Any) -> list[str]:
        program: list[str] = P2P._make_process_args(*args, **options, **nat.daemon_flags(options))
        wrapper = [sys.executable, "-I", "-S", str(die_with_parent.__file__), str(os.getpid())]
        return [*wrapper, *nat.command_prefix(options), *program]


@dataclass
class Daemon:
    """A running daemon. Made by `start`, ended by `stop`."""

    p2p: P2P
    """For hivemind's own DHT node."""
    _identity: Path
    _listen: Sequence[str]
    _announce: Sequence[str]
    timing: Timing = TIMING
    is_relay: bool = False
    """Whether it relays for others although it joins by some of them."""
    _kept: Sequence[str] = ()
    """`_listen` with the ports that were free at the start."""
    _handlers: dict[str, Handler] = field(default_factory=dict)
    _dropping: dict[PublicKey, asyncio.Task[None]] = field(default_factory=dict)

    @classmethod
    async def start(
        cls,
        identity: Path,
        listen: Sequence[str],
        bootstrap: Sequence[str],
        announce: Sequence[str],
        timing: Timing = TIMING,
        relays: Sequence[str] = (),
        *,
        is_relay: bool = False,
    ) -> Daemon:
        """Start a daemon that joins by `bootstrap`, or, without any, that others join and are relayed by.

        identity: file of the node's key. listen: multiaddresses. announce: addresses to announce instead of
        those that the daemon finds. relays: nodes that relay, where `bootstrap` names none of them.
        is_relay: as the field. Raises Unreachable; MachineError where a fixed port of `listen` is taken.
        """
        use_hivemind_log_handler("nowhere")
        asyncio.get_running_loop().set_exception_handler(quiet_about(P2PDaemonError))
        remove_stale_sockets()
        try:
            by = () if is_relay else relays or bootstrap
            p2p = await _start_p2p(identity, listen, bootstrap, by, announce, timing)
        except P2PDaemonError as error:
            remove_stale_sockets()
            if "bootstrap" in str(error):
                raise no_node_answered(bootstrap) from None
            raise Unreachable(
                f"the libp2p daemon did not start on {', '.join(listen)}: {error}",
                fix="Is the port free, and is the program allowed to listen? Try another port.",
            ) from None
        daemon = cls(p2p, identity, listen, announce, timing, is_relay)
        try:
            check_bound(int(p2p._child.pid), nat.both_transports_of(listen))
        except MachineError:
            await daemon.stop()
            raise
        return daemon

    @classmethod
    async def start_asking(cls, timing: Timing = TIMING) -> Daemon:
        """A daemon with a key of its own that serves nothing, to ask other nodes."""
        use_hivemind_log_handler("nowhere")
        asyncio.get_running_loop().set_exception_handler(quiet_about(P2PDaemonError))
        try:
            return cls(await _asker(timing), Path(), (), (), timing)
        except P2PDaemonError as error:
            remove_stale_sockets()
            raise Unreachable(
                f"the libp2p daemon did not start: {error}", fix="Is the program allowed to listen?"
            ) from None

    async def fails(self) -> DaemonFailure:
        """How it fails, once it has ended or stopped to answer."""
        child, unanswered = self.p2p._child, 0
        ended = asyncio.create_task(child.wait())
        try:
            while unanswered < UNANSWERED:
                await asyncio.wait({ended}, timeout=self.timing.daemon_poll)
                if ended.done():
                    return DaemonEnded(int(ended.result()))
                unanswered = 0 if await self._answers() else unanswered + 1
        finally:
            ended.cancel()
        return DaemonHangs()

    async def restart(self, bootstrap: Sequence[str], relays: Sequence[str]) -> Daemon:
        """Kill it, and start one with the same key, ports and protocols. Raises as `start`."""
        old = self.p2p
        if old._child.returncode is None:
            old._child.kill()
        await old.shutdown()
        options = (bootstrap, self._announce, self.timing, relays)
        start = functools.partial(Daemon.start, is_relay=self.is_relay)
        try:
            new = await start(self._identity, self._kept or self._listen, *options)
        except MachineError:  # another program has a port that was ours
            if self._kept in ((), self._listen):
                raise
            new = await start(self._identity, self._listen, *options)
        self.p2p = new.p2p
        for protocol, handler in self._handlers.items():
            await self._serve(protocol, handler)
        return self

    async def keep_ports(self) -> None:
        """Let a restart listen on the ports that were free at the start."""
        self._kept = nat.with_ports(self._listen, await self.addresses())

    async def _answers(self) -> bool:
        try:
            await asyncio.wait_for(daemon_calls.identify(self.p2p), self.timing.daemon_answer)
        except (OSError, EOFError, P2PDaemonError, asyncio.TimeoutError):
            return False
        return True

    async def stop(self) -> None:
        """End the daemon, even if it no longer answers."""
        try:
            await asyncio.wait_for(self.p2p.shutdown(), self.timing.stop)
        except asyncio.TimeoutError:
            self.p2p._child.kill()
            await self.p2p._child.wait()

    async def addresses(self) -> tuple[str, ...]:
        """Multiaddresses by which other nodes may reach this one. Raises OSError, EOFError while down."""
        try:
            return tuple(str(address) for address in await self.p2p.get_visible_maddrs(latest=True))
        except P2PDaemonError as error:
            raise ConnectionError(str(error)) from None

    async def routes(self, peer: PublicKey) -> list[str]:
        """The addresses of the present connections to a peer."""
        return [address for key, addresses in await self.connected() if key == peer for address in addresses]

    async def connected(self) -> list[tuple[PublicKey | None, list[str]]]:
        """The peers that are connected, and the addresses of their connections. Raises OSError, EOFError."""
        try:
            return await daemon_calls.connected(self.p2p)
        except P2PDaemonError as error:
            raise ConnectionError(str(error)) from None

    async def prefer(self, peer: PublicKey, weight: int) -> None:
        """Keep the connections to a peer longest where there are too many. Raises OSError, EOFError."""
        try:
            await daemon_calls.prefer(self.p2p, peer, weight)
        except P2PDaemonError as error:
            raise ConnectionError(str(error)) from None

    async def connect(self, address: str) -> PeerID | None:
        """Dial a node by its multiaddress. None where it is this node, or does not answer."""
        return await self._dial(peer_of(address), [place_of(address)])

    async def dial(self, peer: PublicKey, addresses: Sequence[str]) -> PeerID | None:
        """As `connect`, by addresses that do not name the node."""
        return await self._dial(PeerID(peer_id_bytes(peer)), addresses)

    async def dial_all(self, nodes: Sequence[tuple[PublicKey, Sequence[str]]]) -> list[str]:
        """Dial nodes at once. Returns an address for each that answers, which only names it."""
        found = await asyncio.gather(*(self.dial(*node) for node in nodes))
        return [f"/p2p/{peer}" for peer in found if peer is not None]

    async def _dial(self, peer: PeerID, addresses: Sequence[str]) -> PeerID | None:
        if peer == self.p2p.peer_id:
            return None
        try:
            await asyncio.wait_for(daemon_calls.connect(self.p2p, peer, addresses), self.timing.dial)
        except (P2PDaemonError, OSError, EOFError, asyncio.TimeoutError) as error:
            log.debug("cannot reach %s: %s", ", ".join(addresses), error)
            return None
        return peer

    async def open_stream(self, peer: PublicKey, protocol: str) -> Stream:
        """A new stream to a peer. Raises ConnectionError, OSError, EOFError or TimeoutError.

        Over QUIC, libp2p's daemon does not end some of the streams that were closed. Once a connection holds
        256 of them, no further one opens: it is closed then, and dialled again.
        """
        try:
            opening = daemon_calls.open_stream(self.p2p, peer, protocol)
            return await asyncio.wait_for(opening, self.timing.open_stream)
        except asyncio.TimeoutError:
            log.debug("no stream to %s opens: its connection is closed", peer[:8])
            await self._disconnect(peer)
            return await daemon_calls.open_stream(self.p2p, peer, protocol)

    def drop(self, peer: PublicKey) -> None:
        """Close the connections to a peer in the background. It may dial again."""
        if peer not in self._dropping:
            task = self._dropping[peer] = asyncio.create_task(self._drop(peer))
            task.add_done_callback(lambda _: self._dropping.pop(peer))

    async def _drop(self, peer: PublicKey) -> None:
        try:
            await self._disconnect(peer)
        except (OSError, EOFError, asyncio.TimeoutError) as error:
            log.debug("%s is not disconnected: %s %s", peer[:8], type(error).__name__, error)

    async def _disconnect(self, peer: PublicKey) -> None:
        await asyncio.wait_for(daemon_calls.disconnect(self.p2p, peer), self.timing.daemon_answer)

    async def serve(self, protocol: str, handler: Handler) -> None:
        """Call `handler` for each stream that a peer opens."""
        self._handlers[protocol] = handler
        await self._serve(protocol, handler)

    async def _serve(self, protocol: str, handler: Handler) -> None:
        async def handle(info: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            peer = key_of(info.peer_id.to_bytes())
            if peer is None:  # a key of another kind, which no node of a run has
                end_stream(writer)
            else:
                await handler(peer, reader, writer)

        await self.p2p.add_binary_stream_handler(protocol, handle)


async def _start_p2p(
    identity: Path,
    listen: Sequence[str],
    bootstrap: Sequence[str],
    relays: Sequence[str],
    announce: Sequence[str],
    timing: Timing,
) -> P2P:
    """Restart the daemon while its relay limits connections (`nat.command_prefix` explains why)."""
    addresses, announced = nat.both_transports_of(listen), nat.both_transports_of(announce)

    async def start() -> P2P:
        return await _ChildP2P.create(
            identity_path=str(identity),
            check_if_identity_free=False,
            host_maddrs=addresses,
            announce_maddrs=announced or None,
            initial_peers=list(bootstrap) or None,
            nat_port_map=False,
            startup_timeout=timing.daemon_start,
            persistent_conn_max_msg_size=MAX_MESSAGE_BYTES,
            **nat.p2p_options(relays),
        )

    for _ in range(RELAY_TRIES):
        p2p = await start()
        if relays or await _relays_enough(p2p, addresses if announce else [], timing):
            return p2p
        await p2p.shutdown()
    log.warning(
        "the relay limits its connections: volunteers behind a NAT fetch contributions from this node instead"
    )
    return await start()


async def _asker(timing: Timing) -> P2P:
    return await _ChildP2P.create(nat_port_map=False, startup_timeout=timing.daemon_start)


async def _relays_enough(p2p: P2P, listens: Sequence[str], timing: Timing) -> bool:
    """Whether a relay that has just started carries whole blobs. A second daemon asks it for its limits."""
    own = Multiaddr(f"/p2p/{p2p.peer_id}")
    found = listens or [str(address.decapsulate(own)) for address in await p2p.get_visible_maddrs()]
    asker = await _asker(timing)
    client = asker._client
    try:
        await client.connect(p2p.peer_id, [Multiaddr(text) for text in nat.local_addresses(found)])
        _, reader, writer = await asker.call_binary_stream_handler(p2p.peer_id, nat.HOP_PROTOCOL)
        return await nat.relayed_bytes(reader, writer, timing) >= nat.RELAYED_BYTES
    except (P2PDaemonError, OSError, EOFError, asyncio.TimeoutError, MalformedBlob) as error:
        log.debug("the relay's limits are unknown: %s", error)
        return False
    finally:
        await asker.shutdown()
