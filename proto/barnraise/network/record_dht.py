"""hivemind's DHT: keeps the run's records for nodes that join later, and refuses all others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

from hivemind.dht import node as node_module
from hivemind.dht import protocol, routing
from hivemind.dht.node import DHTNode
from hivemind.dht.routing import DHTID
from hivemind.dht.validation import DHTRecord, RecordValidatorBase
from hivemind.p2p import PeerID
from hivemind.utils import MSGPackSerializer, timed_storage

from barnraise.contract.dht_keys import DhtKey, dht_key_of
from barnraise.contract.head_proof import is_from_the_future
from barnraise.contract.heartbeat import LONGEST, is_early
from barnraise.contract.keys_in_force import KeysInForce
from barnraise.contract.protocol import CoordinatorDoesNotFit
from barnraise.contract.records import Commit, Head, Presence, Record, open_record, tagged
from barnraise.contract.run_keys import Signers
from barnraise.core.errors import TrustError
from barnraise.core.ids import Millis, PublicKey, Round, RunId
from barnraise.core.signed import Signed
from barnraise.network.daemon import Daemon
from barnraise.network.daemon_failure import no_node_answered
from barnraise.network.dht_protocol import BoundedProtocol, place_of_node
from barnraise.network.key_access import Access
from barnraise.network.node_addresses import peer_of
from barnraise.network.peer_guard import PeerGuard
from barnraise.network.timing import TIMING, Timing

log = logging.getLogger("barnraise.swarm")

NEIGHBOURS = 8
"""The k of Kademlia, as in BitTorrent's DHT: nodes that a search asks, and that each of them names."""
RECORD_SECONDS = 3600.0
"""Lifetime of a record. All nodes must agree on it, as on SKEW_SECONDS: it is part of the protocol."""
ROUNDS_AROUND = 2
"""A commit to a round that is further from the open one is not stored."""
MAX_FAILURES = 4096
"""Nodes that did not answer of which hivemind keeps a count, which is not used here."""
SKEW_SECONDS = 1200.0
"""Difference between clocks up to which a record is accepted."""


class RecordValidator(RecordValidatorBase):
    """Runs on every node for every record, so that records of strangers are not stored."""

    def __init__(
        self,
        run: RunId,
        keys: KeysInForce,
        clock: Callable[[], Millis],
        guard: PeerGuard,
        open_round: Callable[[], Round | None] = lambda: None,
    ) -> None:
        """guard: also of the protocol, to which hivemind passes nothing else. open_round: by the newest head;
        None before there is one.
        """
        self._run, self._keys, self._clock, self.guard = run, keys, clock, guard
        self.open_round = open_round

    def validate(self, record: DHTRecord) -> bool:
        """Whether it is a record of the run, at its own key, that does not outlive its time."""
        try:
            value = MSGPackSerializer.loads(record.value)
            if not isinstance(value, bytes):
                return False
            signed = open_record(value, run=self._run, signers=self._keys.signers, now=self._clock())
        except (TrustError, CoordinatorDoesNotFit, ValueError, TypeError) as error:
            log.debug("refused a DHT record: %s", error)
            return False
        return self._is_wanted(signed, record)

    def _is_wanted(self, signed: Signed[Record], record: DHTRecord) -> bool:
        now, banned = self._clock(), self.guard.access(signed.signer) is Access.BANNED
        if banned or (isinstance(signed.value, Commit) and self._is_far(signed.value)):
            return False
        if isinstance(signed.value, Presence) and is_early(Millis(signed.value.at), LONGEST, now):
            return False
        if isinstance(signed.value, Head) and is_from_the_future(
            signed.value, signed.signer, self._keys.position, self._keys.first, now
        ):
            return False
        place = dht_key_of(signed.value, _closer(signed, self._keys))
        wanted = _in_place(record, place) and record.expiration_time <= _latest_expiry(signed.value, now)
        if wanted and not isinstance(signed.value, Head):
            self.guard.admit(signed.signer)
        return wanted

    def _is_far(self, commit: Commit) -> bool:
        """Whether nobody looks for it: a volunteer may be a round behind, and its clock off by another."""
        open_round = self.open_round()
        return open_round is not None and abs(commit.round - open_round) > ROUNDS_AROUND


def _closer(signed: Signed[Record], keys: KeysInForce) -> PublicKey | None:
    """The signer of a head, where it is none of the run's own keys.

    A head may bring successors along that are not known here.
    """
    head = signed.value
    brought = [named.successor for named in head.successors] if isinstance(head, Head) else []
    return None if signed.signer in (*keys.signers.run_keys, *brought) else signed.signer


def _in_place(stored: DHTRecord, place: DhtKey) -> bool:
    key, subkey = DHTID.generate(source=place.key).to_bytes(), MSGPackSerializer.dumps(place.subkey)
    return bool(stored.key == key and stored.subkey == subkey)


def _latest_expiry(record: Record, now: Millis) -> float:
    """When a record expires at the latest, in seconds on the run's clock.

    The DHT keeps the record that expires last, so the expiry of one with a time follows from that alone:
    with any slack, an older one could be replayed over a newer.
    """
    match record:
        case Head(at=at) | Presence(at=at):
            return at / 1000 + RECORD_SECONDS
        case Commit():
            return now / 1000 + RECORD_SECONDS + SKEW_SECONDS


def _expire_by(clock: Callable[[], Millis]) -> None:
    """Have hivemind expire records by the run's clock instead of the wall clock.

    For the whole process: each of its modules has imported the function that it calls.
    """
    for module in (timed_storage, node_module, protocol, routing):
        module.get_dht_time = lambda: clock() / 1000


@dataclass
class RecordDht:
    """This node of the DHT. Made by `join`, ended by `stop`."""

    _run: RunId
    _keys: KeysInForce
    _node: DHTNode
    _validator: RecordValidator
    _clock: Callable[[], Millis]
    _timing: Timing

    @classmethod
    async def join(
        cls,
        daemon: Daemon,
        run: RunId,
        keys: KeysInForce,
        clock: Callable[[], Millis],
        bootstrap: Sequence[str],
        guard: PeerGuard,
        open_round: Callable[[], Round | None],
        timing: Timing = TIMING,
        *,
        may_be_first: bool = False,
    ) -> RecordDht:
        """keys: whose records are taken. open_round: as `RecordValidator`. may_be_first: others may join by
        this node. Raises Unreachable when no node of `bootstrap` answers, unless it may be the first.
        """
        _expire_by(clock)
        node_module.DHTProtocol = BoundedProtocol
        validator = RecordValidator(run, keys, clock, guard, open_round)
        peers = {peer_of(address) for address in bootstrap}
        node = await DHTNode.create(
            p2p=daemon.p2p,
            node_id=place_of_node(daemon.p2p.peer_id),
            # hivemind's own way in needs an answer within seconds, and has the others call back.
            ensure_bootstrap_success=False,
            record_validator=validator,
            strict=False,
            bucket_size=NEIGHBOURS,
            cache_locally=False,
            cache_nearest=0,
            cache_on_store=False,
            blacklist_time=timing.dht_blacklist,
            backoff_rate=1.0,
            reuse_get_requests=False,  # it keeps every key that was ever asked for
        )
        dht = cls(run, keys, node, validator, clock, timing)
        node.protocol.join_by(peers)
        answers = await asyncio.gather(*(dht.ping(peer) for peer in peers))
        if peers and not any(answers) and not may_be_first:
            await node.shutdown()
            raise no_node_answered(bootstrap)
        if peers:
            await dht.find_neighbours()
        return dht

    async def find_neighbours(self) -> None:
        """Have the nodes that are nearest to this one know it, and know them."""
        search = self._node.find_nearest_nodes([self._node.node_id])
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(search, self._node.protocol.wait_timeout)

    async def rejoin(self, daemon: Daemon, bootstrap: Sequence[str], *, may_be_first: bool = False) -> None:
        """Join again after a restart of the daemon. Raises as `join`."""
        self._node.is_alive = False  # its handlers are gone with the old daemon
        joined = await RecordDht.join(
            daemon,
            self._run,
            self._keys,
            self._clock,
            bootstrap,
            self._validator.guard,
            self._validator.open_round,
            self._timing,
            may_be_first=may_be_first,
        )
        self._node, self._validator = joined._node, joined._validator

    async def ping(self, peer: PeerID) -> bool:
        """Whether a node answers. It enters the routing table then."""
        protocol = self._node.protocol
        if await protocol.call_ping(peer) is None:
            return False
        await protocol.update_routing_table(None, peer)  # hivemind does, in a task that runs later
        return True

    async def store(self, signed: Signed[Record]) -> bool:
        """Store a record. False when no node took it."""
        place = dht_key_of(signed.value, _closer(signed, self._keys))
        expiry = _latest_expiry(signed.value, self._clock())
        if isinstance(signed.value, Commit):
            expiry -= SKEW_SECONDS
        return bool(await self._node.store(place.key, tagged(signed), expiry, subkey=place.subkey))

    async def look_up(self, key: str, newest: bool) -> list[Signed[Record]]:
        """As `dht_poller.Lookup`. The validator passed all that is found; the keys may be others since."""
        failures = self._node.blacklist.ban_counter
        if len(failures) > MAX_FAILURES:
            failures.clear()
        found = await self._node.get(key, latest=newest)
        if found is None:
            return []
        if not isinstance(found.value, dict):
            return self._opened([found.value])
        return self._opened([entry.value for _, entry in sorted(found.value.items())])

    def _opened(self, values: Sequence[bytes]) -> list[Signed[Record]]:
        records, signers = [], self._keys.signers
        for value in values:
            try:
                records.append(_open_once(value, self._run, signers))
            except TrustError as error:
                log.debug("a stored record counts no longer: %s", error)
        return records

    async def stop(self) -> None:
        """Leave the DHT."""
        try:
            await asyncio.wait_for(self._node.shutdown(), self._timing.stop)
        except asyncio.TimeoutError:
            log.debug("the DHT node did not stop in time")


@lru_cache(maxsize=4096)
def _open_once(value: bytes, run: RunId, signers: Signers) -> Signed[Record]:
    """The same records are read many times, and checking a signature is slow."""
    return open_record(value, run=run, signers=signers, now=Millis(0))
