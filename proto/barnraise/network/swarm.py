"""The swarm: hivemind's DHT for records and its libp2p daemon for streams. Nothing else imports hivemind.

hivemind's DHTNode and P2P run in our own asyncio loop (no forked processes). Blobs and told records use
raw libp2p streams of ours (`blob_stream`, `grapevine`) instead of hivemind's protobuf streams, whose
length field a stranger may set to anything.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

from hivemind.dht.node import DHTNode
from hivemind.dht.routing import DHTID
from hivemind.dht.validation import DHTRecord, RecordValidatorBase
from hivemind.p2p import P2P, PeerID
from hivemind.p2p.p2p_daemon_bindings.utils import (
    P2PDaemonError,
    raise_if_failed,
    read_pbmsg_safe,
    write_pbmsg,
)
from hivemind.proto import p2pd_pb2
from hivemind.utils import MSGPackSerializer, get_dht_time
from hivemind.utils.logging import use_hivemind_log_handler
from hivemind.utils.multiaddr import Multiaddr

from barnraise.contract.pieces import Wanted
from barnraise.contract.records import (
    Commit,
    Head,
    Presence,
    Record,
    dht_key_of,
    open_record,
    tagged,
)
from barnraise.core.errors import MachineError, TrustError, Unreachable
from barnraise.core.identity import Identity
from barnraise.core.ids import BlobHash, Millis, PublicKey, Round, RunId
from barnraise.core.signed import Signed
from barnraise.network.blobs.token_bucket import UNCAPPED, Caps
from barnraise.network.blobs.transfer import PIECE_PROTOCOL, WHOLE_PROTOCOL, Transfer
from barnraise.network.daemon import start_daemon
from barnraise.network.gossip import GOSSIP_PROTOCOL, Gossip
from barnraise.network.peer_ids import peer_id_bytes, remove_stale_sockets, write_identity
from barnraise.runtime.blob_store import BlobStore

log = logging.getLogger("barnraise.swarm")

STOP_SECONDS = 5.0
NEIGHBOURS = 8
"""The k of Kademlia, as in BitTorrent's DHT: a search asks so many nodes, and each names so many."""
RECORD_SECONDS = 3600.0
"""How long a record lives in the DHT."""
SKEW_SECONDS = 1200.0
"""By how much clocks may differ before records are refused for it."""


class _Validator(RecordValidatorBase):
    """Runs on every node for every record, so that a stranger's record is stored nowhere."""

    def __init__(self, run: RunId, authority: PublicKey, clock: Callable[[], Millis]) -> None:
        self._run, self._authority, self._clock = run, authority, clock

    def validate(self, record: DHTRecord) -> bool:
        try:
            value = MSGPackSerializer.loads(record.value)
            if not isinstance(value, bytes):
                return False
            signed = open_record(value, run=self._run, authority=self._authority, now=self._clock())
        except (TrustError, ValueError, TypeError) as error:
            log.debug("refused a DHT record: %s", error)
            return False
        return _in_place(record, signed.value) and record.expiration_time <= _latest_expiry(signed.value)


def _in_place(stored: DHTRecord, record: Record) -> bool:
    place = dht_key_of(record)
    key, subkey = DHTID.generate(source=place.key).to_bytes(), MSGPackSerializer.dumps(place.subkey)
    return bool(stored.key == key and stored.subkey == subkey)


def _latest_expiry(record: Record) -> float:
    """When a record ends. The DHT keeps the one that ends last, so one that tells its time ends by that
    alone: with any slack, an older one could be replayed over a newer."""
    now: float = get_dht_time()
    match record:
        case Head(at=at) | Presence(at=at):
            return at / 1000 + RECORD_SECONDS
        case Commit():
            return now + RECORD_SECONDS + SKEW_SECONDS


@dataclass
class Swarm:
    """One node of the swarm. Made by `start`, ended by `stop`."""

    _identity: Identity
    _run: RunId
    _authority: PublicKey
    _clock: Callable[[], Millis]
    _blobs: BlobStore
    _p2p: P2P
    _node: DHTNode
    _caps: Caps

    def __post_init__(self) -> None:
        self._transfer = Transfer(self._identity.public, self._blobs, self._caps, self._open_stream)
        self.traffic = self._transfer.traffic
        self._gossip = Gossip(
            self._identity,
            self._run,
            self._authority,
            self._clock,
            store=self._store,
            look_up=self._look_up,
            open_stream=self._open_stream,
            random=Random(),
        )

    @classmethod
    async def start(
        cls,
        identity: Identity,
        run: RunId,
        authority: PublicKey,
        *,
        clock: Callable[[], Millis],
        blobs: BlobStore,
        folder: Path,
        listen: str,
        bootstrap: Sequence[str] = (),
        announce: Sequence[str] = (),
        caps: Caps = UNCAPPED,
    ) -> Swarm:
        """Start the daemon and join the DHT.

        listen: a multiaddress. bootstrap: addresses of nodes to join by; where none of them
        answers this raises Unreachable. announce: addresses to tell instead of those found,
        of which QUIC is told as well.
        caps: what the blobs may take of the line; records are small and go uncapped.
        """
        use_hivemind_log_handler("nowhere")
        asyncio.get_running_loop().set_exception_handler(_lost_connections_quietly)
        remove_stale_sockets()
        try:
            p2p = await start_daemon(write_identity(identity, folder), listen, bootstrap, announce)
        except P2PDaemonError as error:
            if "bootstrap" in str(error):
                raise _no_swarm(bootstrap) from None
            raise Unreachable(
                f"the libp2p daemon did not start on {listen}: {error}",
                fix="Is the port free, and is the program allowed to listen? Try another port.",
            ) from None
        node = await DHTNode.create(
            p2p=p2p,
            initial_peers=list(bootstrap) or None,
            # It would have them call back before they answer, which they try by the connection that we had
            # before a crash, and give up with the call. We ask them below.
            ensure_bootstrap_success=False,
            record_validator=_Validator(run, authority, clock),
            strict=False,
            bucket_size=NEIGHBOURS,
            cache_locally=False,
            cache_nearest=0,
            cache_on_store=False,
            blacklist_time=2.0,
            backoff_rate=1.0,
        )
        peers = {PeerID.from_base58(Multiaddr(address)["p2p"]) for address in bootstrap}
        if peers and not any(await asyncio.gather(*(node.protocol.call_ping(peer) for peer in peers))):
            await node.shutdown()
            await p2p.shutdown()
            raise _no_swarm(bootstrap)
        swarm = cls(identity, run, authority, clock, blobs, p2p, node, caps)
        await swarm._serve()
        return swarm

    async def guard(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` as long as the daemon lives. Raises MachineError when it ends by itself."""
        main, daemon = asyncio.create_task(work), asyncio.create_task(self._p2p._child.wait())
        try:
            await asyncio.wait({main, daemon}, return_when=asyncio.FIRST_COMPLETED)
            if not main.done():
                raise MachineError(
                    f"the libp2p daemon ended by itself (status {daemon.result()})",
                    fix="Start again: you go on where you were. If it repeats, look for what kills `p2pd`.",
                )
            main.result()
        finally:
            main.cancel()
            daemon.cancel()

    async def stop(self) -> None:
        """Leave the swarm and end the daemon, also where it no longer answers."""
        await self._gossip.close()
        self._transfer.close()
        try:
            await asyncio.wait_for(self._node.shutdown(), STOP_SECONDS)
        except asyncio.TimeoutError:
            log.debug("the DHT node did not stop in time")
        try:
            await asyncio.wait_for(self._p2p.shutdown(), STOP_SECONDS)
        except asyncio.TimeoutError:
            self._p2p._child.kill()

    async def addresses(self) -> tuple[str, ...]:
        """Multiaddresses under which others may reach this node."""
        return tuple(str(address) for address in await self._p2p.get_visible_maddrs(latest=True))

    async def reconnect(self, addresses: Sequence[str]) -> bool:
        """Dial nodes that may have come back, and enter them in the routing table. True if one answered."""
        answered = False
        for text in addresses:
            address = Multiaddr(text)
            peer = PeerID.from_base58(address["p2p"])
            if peer == self._p2p.peer_id:
                continue
            try:
                await self._p2p._client.connect(peer, [address.decapsulate(Multiaddr(f"/p2p/{peer}"))])
            except P2PDaemonError as error:
                log.debug("cannot reach %s: %s", text, error)
                continue
            answered |= await self._node.protocol.call_ping(peer) is not None
        return answered

    async def publish(self, record: Record) -> bool:
        """As `Gossip.publish`: tell a record, and store it in the DHT."""
        return await self._gossip.publish(record)

    async def heads(self) -> list[Head]:
        """As `Gossip.heads`: the newest head, if any was heard."""
        return await self._gossip.heads()

    async def peers(self) -> list[Presence]:
        """As `Gossip.peers`: the heartbeats of those who are there now."""
        return await self._gossip.peers()

    async def commits(self, round: Round) -> list[Signed[Commit]]:
        """As `Gossip.commits`: what was committed to a round, as far as it was heard."""
        return await self._gossip.commits(round)

    async def fetch(self, name: BlobHash, limit: int, holders: Sequence[PublicKey]) -> Path:
        """As `Transfer.fetch`: a whole blob from the first holder that gives it."""
        return await self._transfer.fetch(name, limit, holders)

    async def fetch_pieces(self, wanted: Wanted, holders: Sequence[PublicKey]) -> Path:
        """As `Transfer.fetch_pieces`: a contribution in pieces, from all who hold some of it."""
        return await self._transfer.fetch_pieces(wanted, holders)

    async def wait_served(self, name: BlobHash, timeout: float) -> bool:
        """As `Transfer.wait_served`: whether all of a blob of ours went out."""
        return await self._transfer.wait_served(name, timeout)

    async def _open_stream(
        self, peer: PublicKey, protocol: str
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """As hivemind's `stream_open`, which forgets to close the socket where the peer cannot be reached."""
        reader, writer = await self._p2p._client.control.daemon_connector.open_connection()
        wish = p2pd_pb2.StreamOpenRequest(peer=peer_id_bytes(peer), proto=[protocol])
        answer = p2pd_pb2.Response()
        opened = False
        try:
            await write_pbmsg(writer, p2pd_pb2.Request(type=p2pd_pb2.Request.STREAM_OPEN, streamOpen=wish))
            await read_pbmsg_safe(reader, answer)
            raise_if_failed(answer)
            opened = True
        except P2PDaemonError as error:
            raise ConnectionError(str(error)) from None
        finally:
            if not opened:
                writer.close()
        return reader, writer

    async def _store(self, signed: Signed[Record]) -> bool:
        """Store a record in the DHT. False when no node took it."""
        place, expiry = dht_key_of(signed.value), _latest_expiry(signed.value)
        if isinstance(signed.value, Commit):
            expiry -= SKEW_SECONDS
        return bool(await self._node.store(place.key, tagged(signed), expiry, subkey=place.subkey))

    async def _look_up(self, key: str, newest: bool) -> list[Signed[Record]]:
        """As `Lookup`. The validator passed all of it."""
        found = await self._node.get(key, latest=newest)
        if found is None:
            return []
        if not isinstance(found.value, dict):
            return [_open_once(found.value, self._run, self._authority)]
        entries = [entry.value for _, entry in sorted(found.value.items())]
        return [_open_once(value, self._run, self._authority) for value in entries]

    async def _serve(self) -> None:
        """Answer whoever opens a stream with us."""
        served = {
            WHOLE_PROTOCOL: self._transfer.serve,
            PIECE_PROTOCOL: self._transfer.serve_pieces,
            GOSSIP_PROTOCOL: self._gossip.serve,
        }
        for protocol, serve in served.items():

            async def visited(info: Any, *stream: Any, serve: Callable[..., Awaitable[None]] = serve) -> None:
                await serve(str(info.peer_id), *stream)

            await self._p2p.add_binary_stream_handler(protocol, visited)


@lru_cache(maxsize=4096)
def _open_once(value: bytes, run: RunId, authority: PublicKey) -> Signed[Record]:
    """The same records are read again and again, and checking a signature takes long."""
    return open_record(value, run=run, authority=authority, now=Millis(0))


def _lost_connections_quietly(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """hivemind's own tasks end by an error when the daemon or a neighbour goes: nobody waits for them."""
    if isinstance(context.get("exception"), OSError | EOFError | P2PDaemonError):
        log.debug("%s: %s", context["message"], context["exception"])
    else:
        loop.default_exception_handler(context)


def _no_swarm(bootstrap: Sequence[str]) -> Unreachable:
    return Unreachable(
        f"none of the swarm's nodes answered: {', '.join(bootstrap)}",
        fix="Is the coordinator's libp2p port open to you? Check its --p2p-port and any firewall.",
    )
