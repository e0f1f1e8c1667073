"""hivemind's DHT: keeps the run's records for nodes that join later, and refuses all others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from hivemind.dht import node, protocol, routing
from hivemind.dht.node import DHTNode
from hivemind.dht.routing import DHTID
from hivemind.dht.validation import DHTRecord, RecordValidatorBase
from hivemind.p2p import PeerID
from hivemind.utils import MSGPackSerializer, timed_storage

from barnraise.contract.dht_keys import DhtKey, dht_key_of
from barnraise.contract.heartbeat import LONGEST, is_early
from barnraise.contract.keys_in_force import KeysInForce
from barnraise.contract.protocol import CoordinatorDoesNotFit
from barnraise.contract.records import Commit, Head, Presence, Record, open_record, tagged
from barnraise.contract.run_keys import Signers
from barnraise.core.errors import TrustError
from barnraise.core.ids import Millis, PublicKey, RunId
from barnraise.core.signed import Signed
from barnraise.network.daemon import Daemon
from barnraise.network.daemon_failure import no_node_answered
from barnraise.network.node_addresses import peer_of
from barnraise.network.timing import TIMING, Timing

log = logging.getLogger("barnraise.swarm")

NEIGHBOURS = 8
"""The k of Kademlia, as in BitTorrent's DHT: nodes that a search asks, and that each of them names."""
RECORD_SECONDS = 3600.0
"""Lifetime of a record. All nodes must agree on it, as on SKEW_SECONDS: it is part of the protocol."""
SKEW_SECONDS = 1200.0
"""Difference between clocks up to which a record is accepted."""


class RecordValidator(RecordValidatorBase):
    """Runs on every node for every record, so that records of strangers are not stored."""

    def __init__(
        self,
        run: RunId,
        keys: KeysInForce,
        clock: Callable[[], Millis],
    ) -> None:
        self._run, self._keys, self._clock = run, keys, clock

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
        now = self._clock()
        if isinstance(signed.value, Presence) and is_early(Millis(signed.value.at), LONGEST, now):
            return False
        place = dht_key_of(signed.value, _closer(signed, self._keys))
        return _in_place(record, place) and record.expiration_time <= _latest_expiry(signed.value, now)


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
    for module in (timed_storage, node, protocol, routing):
        module.get_dht_time = lambda: clock() / 1000


@dataclass
class RecordDht:
    """This node of the DHT. Made by `join`, ended by `stop`."""

    _run: RunId
    _keys: KeysInForce
    _node: DHTNode
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
        timing: Timing = TIMING,
        *,
        may_be_first: bool = False,
    ) -> RecordDht:
        """keys: whose records are taken. may_be_first: others may join by this node. Raises Unreachable when
        no node of `bootstrap` answers, unless it may be the first.
        """
        _expire_by(clock)
        node = await DHTNode.create(
            p2p=daemon.p2p,
            initial_peers=list(bootstrap) or None,
            # hivemind's check has them call back before they answer. They try that over the connection that
            # we had before a crash, and give up with the call. They are pinged below instead.
            ensure_bootstrap_success=False,
            record_validator=RecordValidator(run, keys, clock),
            strict=False,
            bucket_size=NEIGHBOURS,
            cache_locally=False,
            cache_nearest=0,
            cache_on_store=False,
            blacklist_time=timing.dht_blacklist,
            backoff_rate=1.0,
        )
        dht = cls(run, keys, node, clock, timing)
        peers = {peer_of(address) for address in bootstrap}
        answers = await asyncio.gather(*(dht.ping(peer) for peer in peers))
        if peers and not any(answers) and not may_be_first:
            await node.shutdown()
            raise no_node_answered(bootstrap)
        return dht

    async def rejoin(self, daemon: Daemon, bootstrap: Sequence[str], *, may_be_first: bool = False) -> None:
        """Join again after a restart of the daemon. Raises as `join`."""
        self._node.is_alive = False  # its handlers are gone with the old daemon
        joined = await RecordDht.join(
            daemon, self._run, self._keys, self._clock, bootstrap, self._timing, may_be_first=may_be_first
        )
        self._node = joined._node

    async def ping(self, peer: PeerID) -> bool:
        """Whether a node answers. It enters the routing table then."""
        protocol = self._node.protocol
        return await protocol.call_ping(peer) is not None

    async def store(self, signed: Signed[Record]) -> bool:
        """Store a record. False when no node took it."""
        place = dht_key_of(signed.value, _closer(signed, self._keys))
        expiry = _latest_expiry(signed.value, self._clock())
        if isinstance(signed.value, Commit):
            expiry -= SKEW_SECONDS
        return bool(await self._node.store(place.key, tagged(signed), expiry, subkey=place.subkey))

    async def look_up(self, key: str, newest: bool) -> list[Signed[Record]]:
        """As `dht_poller.Lookup`. The validator passed all that is found; the keys may be others since."""
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
