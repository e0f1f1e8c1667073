"""The swarm: hivemind's DHT for records and its libp2p daemon for blobs. Nothing else imports hivemind.

hivemind's DHTNode and P2P run in our own asyncio loop (no forked processes). Blobs use a raw
libp2p stream of ours (`blob_stream`) instead of hivemind's protobuf streams, whose length field a
stranger may set to anything.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from hivemind.dht.node import DHTNode
from hivemind.dht.routing import DHTID
from hivemind.dht.validation import DHTRecord, RecordValidatorBase
from hivemind.p2p import P2P, PeerID
from hivemind.p2p.p2p_daemon_bindings.utils import P2PDaemonError
from hivemind.proto import crypto_pb2
from hivemind.utils import MSGPackSerializer, get_dht_time
from hivemind.utils.logging import use_hivemind_log_handler
from hivemind.utils.multiaddr import Multiaddr

from barnraise.edge import tether
from barnraise.edge.blob_stream import NotHeld, Sent, Traffic, answer, receive, within
from barnraise.edge.blobstore import BlobStore
from barnraise.edge.files import disk_errors
from barnraise.errors import BarnraiseError, HashMismatch, MachineError, TrustError, Unreachable
from barnraise.identity import Identity
from barnraise.ids import BlobHash, Millis, PublicKey, Round, RunId, short
from barnraise.records import (
    Commit,
    Head,
    Presence,
    Record,
    commits_key,
    head_key,
    open_record,
    peers_key,
    place_of,
    seal,
)
from barnraise.signed import Signed

log = logging.getLogger("barnraise.swarm")

PROTOCOL = "barnraise/blob/1"
STOP_SECONDS = 5.0
MAX_STREAMS = 32
"""Blob streams served at once; more are refused, and the asker tries elsewhere."""
RECORD_SECONDS = 3600.0
"""How long a record lives in the DHT."""
SKEW_SECONDS = 1200.0
"""By how much clocks may differ before records are refused for it."""
ALIVE_SECONDS = 30.0
"""A peer whose heartbeat is older is taken for gone."""

R = TypeVar("R", bound=Record)


class _TetheredP2P(P2P):
    """hivemind's P2P with a daemon that dies with us, and sockets that carry our process id."""

    _client_listen_maddr = None  # where `create` fails early, `__del__` looks for it
    _UNIX_SOCKET_PREFIX = f"/unix{tempfile.gettempdir()}/barnraise-{os.getpid()}-"

    @staticmethod
    def _make_process_args(*args: Any, **options: Any) -> list[str]:
        program: list[str] = P2P._make_process_args(*args, **options)
        return [sys.executable, "-I", "-S", str(tether.__file__), str(os.getpid()), *program]


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
    place = place_of(record)
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
    traffic: Traffic = field(default_factory=Traffic)
    _served: dict[BlobHash, asyncio.Event] = field(default_factory=dict)
    _fetching: dict[BlobHash, asyncio.Lock] = field(default_factory=dict)
    _streams: int = 0

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
    ) -> Swarm:
        """Start the daemon and join the DHT.

        listen: a multiaddress. bootstrap: addresses of nodes to join by; where none of them
        answers this raises Unreachable. announce: addresses to tell instead of those found.
        """
        use_hivemind_log_handler("nowhere")
        asyncio.get_running_loop().set_exception_handler(_lost_connections_quietly)
        remove_stale_sockets()
        try:
            p2p = await _TetheredP2P.create(
                identity_path=str(_identity_file(identity, folder)),
                check_if_identity_free=False,
                host_maddrs=[listen],
                announce_maddrs=list(announce) or None,
                initial_peers=list(bootstrap) or None,
                nat_port_map=False,
            )
        except P2PDaemonError as error:
            if "bootstrap" in str(error):
                raise _no_swarm(bootstrap) from None
            raise Unreachable(
                f"the libp2p daemon did not start on {listen}: {error}",
                fix="Is the port free, and is the program allowed to listen? Try another port.",
            ) from None
        try:
            node = await DHTNode.create(
                p2p=p2p,
                initial_peers=list(bootstrap) or None,
                record_validator=_Validator(run, authority, clock),
                strict=False,
                cache_locally=False,
                cache_nearest=0,
                cache_on_store=False,
                blacklist_time=2.0,
                backoff_rate=1.0,
            )
        except RuntimeError:
            await p2p.shutdown()
            raise _no_swarm(bootstrap) from None
        swarm = cls(identity, run, authority, clock, blobs, p2p, node)
        await p2p.add_binary_stream_handler(PROTOCOL, swarm._serve)
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
        """Sign and store a record. False when no node took it."""
        place = place_of(record)
        value = seal(self._identity, record)
        expiry = _latest_expiry(record)
        if isinstance(record, Commit):
            expiry -= SKEW_SECONDS
        return bool(await self._node.store(place.key, value, expiry, subkey=place.subkey))

    async def heads(self) -> list[Head]:
        """The head that the DHT has, if it has one."""
        found = await self._node.get(head_key(self._run), latest=True)
        return [] if found is None else [self._open(Head, found.value).value]

    async def peers(self) -> list[Presence]:
        """The heartbeats of those who are there now; one from the future is nobody's."""
        now, slack = self._clock(), ALIVE_SECONDS * 1000
        found = await self._collect(Presence, peers_key(self._run))
        return [signed.value for signed in found if abs(signed.value.at - now) <= slack]

    async def commits(self, round: Round) -> list[Signed[Commit]]:
        return await self._collect(Commit, commits_key(self._run, round))

    async def _collect(self, model: type[R], key: str) -> list[Signed[R]]:
        found = await self._node.get(key, latest=True)
        entries = found.value if found is not None and isinstance(found.value, dict) else {}
        return [self._open(model, entry.value) for _, entry in sorted(entries.items())]

    def _open(self, model: type[R], value: bytes) -> Signed[R]:
        """The validator passed it, and its place says which kind it is."""
        signed = open_record(value, run=self._run, authority=self._authority, now=Millis(0))
        assert isinstance(signed.value, model)
        return signed  # type: ignore[return-value]

    async def fetch(self, name: BlobHash, limit: int, holders: Sequence[PublicKey]) -> Path:
        """Get a blob of at most `limit` bytes into the store, from the first holder that gives it whole.

        A stream that breaks is resumed, at the next holder where there is one. Raises Unreachable
        with what each holder did.
        """
        async with self._fetching.setdefault(name, asyncio.Lock()):  # two commits may name one blob
            if name not in self._blobs:
                await self._fetch(name, limit, holders)
        return self._blobs.path(name)

    async def _fetch(self, name: BlobHash, limit: int, holders: Sequence[PublicKey]) -> None:
        trouble: list[str] = []
        for holder in holders:
            try:
                await self._receive(name, limit, _peer_id(holder))
                await asyncio.to_thread(self._blobs.accept, name)
                return
            except BarnraiseError as error:
                if not isinstance(error, Unreachable | HashMismatch):
                    raise
                trouble.append(f"{short(holder)}: {error.problem}")
            except (P2PDaemonError, OSError, EOFError, asyncio.TimeoutError) as error:
                trouble.append(f"{short(holder)}: {type(error).__name__} {error}".rstrip())
        raise Unreachable(
            f"nobody gave the blob {short(name)} ({'; '.join(trouble) or 'no holder is known'})",
            fix="It is asked for again; if this goes on, its owner left before anybody copied it.",
        )

    async def wait_served(self, name: BlobHash, timeout: float) -> bool:
        """Wait until somebody has read a blob of ours to its end. False when nobody did in time."""
        event = self._served.setdefault(name, asyncio.Event())
        try:
            await asyncio.wait_for(event.wait(), timeout)
        except asyncio.TimeoutError:
            return False
        return True

    async def _receive(self, name: BlobHash, limit: int, holder: PeerID) -> None:
        _, reader, writer = await within(self._p2p.call_binary_stream_handler(holder, PROTOCOL))
        try:
            await receive(name, limit, self._blobs, reader, writer, self.traffic)
        finally:
            writer.close()

    async def _serve(self, _info: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._streams += 1
        try:
            if self._streams <= MAX_STREAMS:
                match await answer(self._blobs, reader, writer, self.traffic):
                    case Sent(name):
                        self._served.setdefault(name, asyncio.Event()).set()
                    case NotHeld(name):
                        log.debug("asked for %s, which is not here", short(name))
        except (OSError, EOFError, asyncio.TimeoutError) as error:
            log.debug("a blob stream ended early: %s", error)
        finally:
            self._streams -= 1
            writer.close()


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


def _identity_file(identity: Identity, folder: Path) -> Path:
    """Our Ed25519 key in libp2p's own format, so that one key names the peer everywhere."""
    path = folder / "libp2p.key"
    secret = identity.seed + bytes.fromhex(identity.public)
    key = crypto_pb2.PrivateKey(key_type=crypto_pb2.KeyType.Ed25519, data=secret)
    with disk_errors(path):
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_bytes(key.SerializeToString())
    return path


def _peer_id(key: PublicKey) -> PeerID:
    """libp2p's name of an Ed25519 key: an identity multihash of its protobuf
    (github.com/libp2p/specs, peer-ids)."""
    public = bytes([0x08, 0x01, 0x12, 0x20]) + bytes.fromhex(key)
    return PeerID(bytes([0x00, len(public)]) + public)


def remove_stale_sockets() -> None:
    """Remove sockets of ours whose program was killed."""
    for path in Path(tempfile.gettempdir()).glob("barnraise-*-p2p*.sock"):
        owner = path.name.split("-")[1]
        if owner.isdigit() and not _process_lives(int(owner)):
            path.unlink(missing_ok=True)


def _process_lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
