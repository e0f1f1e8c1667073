"""One node of the swarm: records by gossip and the DHT, blobs by streams, over one libp2p daemon.

hivemind's DHTNode and P2P run in our own asyncio loop (no forked processes). Blobs and gossip use raw
libp2p streams (`whole_protocol`, `piece_protocol`, `gossip`) instead of hivemind's protobuf streams,
whose length field a stranger may set to any value.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from barnraise.contract.contacts import Contact, own_addresses
from barnraise.contract.keys_in_force import KeysInForce
from barnraise.contract.pieces import Wanted
from barnraise.contract.records import Commit, Head, Presence, Record
from barnraise.core.errors import MachineError, Unreachable
from barnraise.core.identity import Identity
from barnraise.core.ids import BlobHash, Millis, PublicKey, Round, RunId
from barnraise.core.signed import Signed, sign
from barnraise.network.address_book import AddressBook, Node
from barnraise.network.address_protocol import ADDRESS_PROTOCOL, AddressProtocol
from barnraise.network.blobs.rate_limiter import UNCAPPED, Caps
from barnraise.network.blobs.transfer import PIECE_PROTOCOL, WHOLE_PROTOCOL, Transfer
from barnraise.network.connection_upkeep import ConnectionUpkeep
from barnraise.network.daemon import Daemon
from barnraise.network.daemon_failure import describe_failure
from barnraise.network.gossip import GOSSIP_PROTOCOL, Gossip
from barnraise.network.gossip_policy import RecordCache
from barnraise.network.head_lookup import HeadLookup
from barnraise.network.key_access import KeyAccess
from barnraise.network.mail import MAIL_PROTOCOL, Mail
from barnraise.network.node_addresses import names_node
from barnraise.network.peer_guard import PeerGuard
from barnraise.network.peer_ids import write_identity
from barnraise.network.record_dht import RecordDht
from barnraise.network.timing import TIMING, Timing
from barnraise.runtime.blob_store import BlobStore

log = logging.getLogger("barnraise.swarm")

MAX_DIALS = 16
"""Known volunteers that are dialled at once."""


@dataclass
class Swarm:
    """One node of the swarm. Made by `start`, ended by `stop`."""

    _daemon: Daemon
    _dht: RecordDht
    _gossip: Gossip
    _transfer: Transfer
    mail: Mail
    """Messages to and from single nodes."""
    _addresses: AddressProtocol
    _guard: PeerGuard
    _bootstrap: Sequence[str]
    _timing: Timing
    _may_be_first: bool = False
    """Whether others may join by this node where no other is there."""

    def __post_init__(self) -> None:
        self.traffic = self._transfer.traffic

    @classmethod
    async def start(
        cls,
        identity: Identity,
        run: RunId,
        keys: KeysInForce,
        *,
        clock: Callable[[], Millis],
        blobs: BlobStore,
        folder: Path,
        listen: Sequence[str],
        bootstrap: Sequence[str] = (),
        announce: Sequence[str] = (),
        caps: Caps = UNCAPPED,
        timing: Timing = TIMING,
        book: AddressBook | None = None,
        admission: Callable[[], str] | None = None,
        relays: bool = False,
        counts: bool = False,
        may_be_first: bool = False,
    ) -> Swarm:
        """Start the daemon and join the DHT.

        listen: multiaddresses. bootstrap: addresses of nodes to join by, and to be relayed by; where none of
        them answers, the volunteers of `book` are tried, and Unreachable is raised where none of those does.
        announce: addresses to announce instead of those found, of which QUIC is announced too. caps: limits
        on the traffic of blobs; records are small and have none. admission: of this node, in base64, where
        other nodes may pass on its addresses; empty before it has one. keys: whose records are taken; they
        may change. relays: whether all others reach this node, which then relays for those that are not
        reached; a node without `bootstrap` always does. counts: whether this node keeps the heartbeats of all
        volunteers, as the coordinator and closers do. may_be_first: whether it begins where none of them
        answers, instead of raising: others may join by it.
        """
        book = AddressBook(run, keys) if book is None else book
        book.trust(keys)
        key = write_identity(identity, folder)

        async def start(bootstrap: Sequence[str], by: Sequence[str]) -> Daemon:
            return await Daemon.start(key, listen, bootstrap, announce, timing, by, is_relay=relays)

        daemon, nodes = await _entered(start, bootstrap, book, may_be_first)
        guard = PeerGuard(KeyAccess(keys, keys.bans), daemon.drop)
        counts = counts or identity.public in keys.signers
        cache = RecordCache.of_node(counts=counts, trusts=keys.trusts)
        try:
            dht = await RecordDht.join(
                daemon, run, keys, clock, nodes, guard, cache.open_round, timing, may_be_first=may_be_first
            )
        except Unreachable:
            await daemon.stop()
            raise

        async def ask_coordinator() -> None:
            if identity.public != keys.coordinator:
                await addresses.ask(keys.coordinator, daemon.open_stream)

        gossip = Gossip(
            identity,
            run,
            keys,
            clock,
            store=dht.store,
            look_up=HeadLookup(run, dht.look_up, lambda: cache.signed_head, ask_coordinator, clock, timing),
            open_stream=daemon.open_stream,
            guard=guard,
            random=Random(),
            timing=timing,
            counts=counts,
            cache=cache,
        )

        async def contact() -> Signed[Contact] | None:
            if admission is None or not (admitted := admission()):
                return None
            return _contact(identity, run, admitted, await daemon.addresses(), clock())

        addresses = AddressProtocol(
            book, clock, contact, lambda: gossip.signed_head, gossip.learn, guard, Random(), timing
        )
        transfer = Transfer(identity.public, blobs, caps, daemon.open_stream, guard, timing)
        await daemon.serve(WHOLE_PROTOCOL, transfer.serve)
        await daemon.serve(PIECE_PROTOCOL, transfer.serve_pieces)
        await daemon.serve(GOSSIP_PROTOCOL, gossip.serve)
        mail = Mail(daemon.open_stream, guard, timing)
        await daemon.serve(MAIL_PROTOCOL, mail.serve)
        await daemon.serve(ADDRESS_PROTOCOL, addresses.serve)
        await daemon.keep_ports()
        return cls(daemon, dht, gossip, transfer, mail, addresses, guard, bootstrap, timing, may_be_first)

    async def guard(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work`, and start the daemon again whenever it ends or hangs."""
        main, keeping = asyncio.create_task(work), asyncio.create_task(self._keep_daemon())
        upkeep = asyncio.create_task(ConnectionUpkeep(self._daemon, self._guard, self._timing).run())
        try:
            await asyncio.wait({main, keeping}, return_when=asyncio.FIRST_COMPLETED)
            (main if main.done() else keeping).result()
        finally:
            main.cancel()
            keeping.cancel()
            upkeep.cancel()

    async def _keep_daemon(self) -> None:
        while True:
            failure = await self._daemon.fails()
            log.warning("%s; it is started again", describe_failure(failure))
            pause = self._timing.daemon_restart
            while not await self._restart_daemon():
                await asyncio.sleep(pause)
                pause = min(2 * pause, self._timing.max_daemon_restart)
            log.info("the libp2p daemon is back")

    async def _restart_daemon(self) -> bool:
        """Start the daemon again and rejoin. False, with a log line, where that failed."""
        try:
            first, book = self._may_be_first, self._addresses.book
            _, nodes = await _entered(self._daemon.restart, self._bootstrap, book, first)
            await self._dht.rejoin(self._daemon, nodes, may_be_first=first)
        except (Unreachable, MachineError, OSError, EOFError) as error:
            log.warning("the libp2p daemon is not back yet: %s", error)
            return False
        return True

    async def stop(self) -> None:
        """Leave the swarm and end the daemon, even if it no longer answers."""
        await self._gossip.close()
        self.mail.close()
        self._transfer.close()
        await self._dht.stop()
        await self._daemon.stop()

    async def addresses(self) -> tuple[str, ...]:
        """Multiaddresses by which other nodes may reach this one."""
        return await self._daemon.addresses()

    async def routes(self, peer: PublicKey) -> list[str]:
        """The addresses of the present connections to a peer."""
        return await self._daemon.routes(peer)

    async def reconnect(self, addresses: Sequence[str]) -> bool:
        """Dial nodes that may have come back, and enter them in the routing table. True if one answered.

        Addresses that are none are skipped: a closer may sign a head with any.
        """
        valid = [address for address in addresses if names_node(address)]
        if valid:
            self._bootstrap = self._bootstrap and valid  # the newest are what a restart joins by
        return any(await asyncio.gather(*map(self._reconnect, valid)))

    async def _reconnect(self, address: str) -> bool:
        peer = await self._daemon.connect(address)
        return peer is not None and await self._dht.ping(peer)

    async def meet(self, peers: Sequence[Node]) -> int:
        """Dial other volunteers, and exchange addresses and heads with them. Returns how many answered."""
        return sum(await asyncio.gather(*(self._meet(*node) for node in peers[:MAX_DIALS])))

    async def _meet(self, peer: PublicKey, addresses: Sequence[str]) -> bool:
        found = await self._daemon.dial(peer, addresses)
        return found is not None and await self.exchange_addresses(peer) and await self._dht.ping(found)

    async def exchange_addresses(self, peer: PublicKey) -> bool:
        """As `AddressProtocol.ask`."""
        return await self._addresses.ask(peer, self._daemon.open_stream)

    def admit(self, *keys: PublicKey) -> None:
        """As `KeyAccess.admit`: the run has admitted these keys, of which no record may be here yet."""
        for key in keys:
            self._guard.admit(key)

    def learn(self, head: Signed[Head]) -> None:
        """As `Gossip.learn`: a head that was found another way."""
        self._gossip.learn(head)

    def measures_clock(self, head: Head) -> bool:
        """As `Gossip.measures_clock`."""
        return self._gossip.measures_clock(head)

    def known_addresses(self) -> AddressBook:
        """The book, with the newest head."""
        self._addresses.update()
        return self._addresses.book

    async def publish(self, record: Record) -> bool:
        """As `Gossip.publish`: send a record, and store it in the DHT."""
        return await self._gossip.publish(record)

    async def heads(self) -> list[Head]:
        """As `Gossip.heads`: the newest head, if one was received."""
        return await self._gossip.heads()

    async def peers(self) -> list[Presence]:
        """As `Gossip.peers`: the heartbeats that have not expired."""
        return await self._gossip.peers()

    async def commits(self, round: Round) -> list[Signed[Commit]]:
        """As `Gossip.commits`: the commits to a round, as far as they were received."""
        return await self._gossip.commits(round)

    async def fetch(self, name: BlobHash, limit: int, holders: Sequence[PublicKey]) -> Path:
        """As `Transfer.fetch`: a whole blob from the first holder that serves it."""
        return await self._transfer.fetch(name, limit, holders)

    async def fetch_pieces(self, wanted: Wanted, holders: Sequence[PublicKey]) -> Path:
        """As `Transfer.fetch_pieces`: a contribution in pieces, from all who hold some of it."""
        return await self._transfer.fetch_pieces(wanted, holders)

    async def wait_served(self, name: BlobHash, timeout: float) -> bool:
        """As `Transfer.wait_served`: whether all of a blob was sent."""
        return await self._transfer.wait_served(name, timeout)


async def _entered(
    start: Callable[[Sequence[str], Sequence[str]], Awaitable[Daemon]],
    bootstrap: Sequence[str],
    book: AddressBook,
    may_be_first: bool,
) -> tuple[Daemon, Sequence[str]]:
    """A daemon that `start` makes by `bootstrap`, or, where nothing there answers, by nodes of `book`.

    Returns the addresses of nodes that answer too. Raises Unreachable where none does, unless it may be the
    first.
    """
    try:
        return await start(bootstrap, bootstrap), bootstrap
    except Unreachable as error:
        candidates = book.candidates(without=())[:MAX_DIALS]
        if not bootstrap or not (candidates or may_be_first):
            raise
        log.info("%s; trying %d nodes that are known", error.problem, len(candidates))
        daemon = await start((), bootstrap)
        nodes = await daemon.dial_all(candidates)
        if nodes or may_be_first:
            return daemon, nodes
        await daemon.stop()
        raise


def _contact(
    identity: Identity, run: RunId, admission: str, found: Sequence[str], now: Millis
) -> Signed[Contact] | None:
    """What other nodes pass on of this one. None while it has no address."""
    addresses = own_addresses(found)
    if not addresses:
        return None
    owner = identity.public
    return sign(identity, Contact(run=run, owner=owner, admission=admission, addresses=addresses, at=now))
