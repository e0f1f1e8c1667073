"""hivemind's DHT protocol between strangers: bounded messages, and a routing table of admitted keys.

| hivemind's own                                     | here                                                  |
|----------------------------------------------------|-------------------------------------------------------|
| a node chooses its place in the DHT                | its place is the hash of its key                      |
| each sender of a message enters the routing table  | admitted keys do, and those that this node joined by  |
| a request has any number of keys                   | dht_limits.MAX_KEYS                                   |
| an answer has an entry of any size                 | MAX_ANSWER_BYTES of it, chosen at random              |
| one bad record of an entry hides all others        | it is left out                                        |
| an entry is as new as its sender says              | as the newest record in it                            |
| a key sends any number of messages                 | at its rate                                           |
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from random import Random
from typing import Any

from hivemind.dht.protocol import DHTProtocol
from hivemind.dht.routing import DHTID
from hivemind.dht.storage import DictionaryDHTValue
from hivemind.p2p import P2PContext, PeerID
from hivemind.proto import dht_pb2
from hivemind.utils.timed_storage import ValueWithExpiration

from barnraise.core.ids import PublicKey
from barnraise.network.dht_limits import DhtLimits, RefusedMessage
from barnraise.network.dht_storage import BoundedStorage
from barnraise.network.key_access import Access
from barnraise.network.peer_guard import PeerGuard
from barnraise.network.peer_ids import key_of

MAX_ANSWER_BYTES = 2**18
"""Of one entry in an answer, some 300 records: half of `daemon.MAX_MESSAGE_BYTES`."""
Found = dict[DHTID, tuple[Any, dict[DHTID, PeerID]]]


def place_of_node(peer: PeerID) -> DHTID:
    """Where a node is in the DHT: with a free choice, a few programs would surround any entry."""
    return DHTID.generate(source=peer.to_bytes())


class BoundedProtocol(DHTProtocol):
    """The protocol of one node. `RecordDht` makes it, through hivemind's DHTNode."""

    _rpc_handlers = None  # those of this class, not of the one above
    _stub_type = None

    @classmethod
    async def create(cls, p2p: Any, node_id: DHTID, *more: Any) -> BoundedProtocol:
        """As hivemind's."""
        made: BoundedProtocol = await super().create(p2p, node_id, *more)
        made.storage, made.cache = BoundedStorage(made._trusts), BoundedStorage(made._trusts)
        return made

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._limits = DhtLimits()
        self._random = Random()
        self._joined_by: set[PeerID] = set()

    @classmethod
    def _get_handle_name(cls, namespace: str | None, method_name: str) -> str:
        return f"DHTProtocol.{method_name}"

    @property
    def _guard(self) -> PeerGuard:
        """hivemind passes no argument of ours but the validator."""
        guard: PeerGuard = self.record_validator.guard
        return guard

    def _trusts(self, owner: Any) -> bool:
        """Whether records of a key come first: trusted ones, and the closers'."""
        return isinstance(owner, str) and self._guard.access(PublicKey(owner)) >= Access.TRUSTED

    def join_by(self, peers: Collection[PeerID]) -> None:
        """Enter these nodes in the routing table when they answer, also without an admission."""
        self._joined_by |= {*peers}

    # What others ask

    async def rpc_ping(self, request: dht_pb2.PingRequest, context: P2PContext) -> dht_pb2.PingResponse:
        """Answer that this node is there. It does not call back, which would have it dial for strangers."""
        await self._check(request, 1, context)
        await self._meet(request.peer, context)
        return dht_pb2.PingResponse(peer=self.node_info, available=False)

    async def rpc_find(self, request: dht_pb2.FindRequest, context: P2PContext) -> dht_pb2.FindResponse:
        """Answer with entries, and with nodes that are nearer."""
        await self._check(request, len(request.keys), context)
        await self._meet(request.peer, context)
        results = [self._result(DHTID.from_bytes(key), context.remote_id) for key in request.keys]
        return dht_pb2.FindResponse(results=results, peer=self.node_info)

    async def rpc_store(self, request: dht_pb2.StoreRequest, context: P2PContext) -> dht_pb2.StoreResponse:
        """Store records that the validator passes."""
        await self._check(request, len(request.keys), context)
        await self._meet(request.peer, context)
        records = (request.keys, request.subkeys, request.values, request.expiration_time)
        if any(request.in_cache) or len({*map(len, records)}) != 1:
            raise RefusedMessage("no records to store")
        stored = [self._store(*record) for record in zip(*records, strict=True)]
        return dht_pb2.StoreResponse(store_ok=stored, peer=self.node_info)

    def _store(self, key: bytes, tag: bytes, value: bytes, expires: float) -> bool:
        place = DHTID.from_bytes(key)
        if tag == self.IS_DICTIONARY:
            entry = self.serializer.loads(value)
            if not isinstance(entry, DictionaryDHTValue) or not self._validate_dictionary(key, entry):
                return False
            stored = [self.storage.store(place, *found, subkey) for subkey, found in entry.items()]
            return all(stored)
        if not self._validate_record(key, tag, value, expires):
            return False
        subkey = None if tag == self.IS_REGULAR_VALUE else self.serializer.loads(tag)
        return bool(self.storage.store(place, value, expires, subkey))

    async def _check(self, request: Any, keys: int, context: P2PContext) -> None:
        """Raises RefusedMessage, as `DhtLimits.check`."""
        await self._limits.check(self._guard, key_of(context.remote_id.to_bytes()), keys, request.ByteSize())

    def _result(self, key: DHTID, asker: PeerID) -> dht_pb2.FindResult:
        result = self._entry(key)
        nearest = self.routing_table.get_nearest_neighbors(
            key, k=self.bucket_size, exclude=place_of_node(asker)
        )
        for node, peer in nearest:
            result.nearest_node_ids.append(node.to_bytes())
            result.nearest_peer_ids.append(peer.to_bytes())
        return result

    def _entry(self, key: DHTID) -> dht_pb2.FindResult:
        found = self.storage.get(key)
        if found is None:
            return dht_pb2.FindResult(type=dht_pb2.NOT_FOUND)
        if not isinstance(found.value, DictionaryDHTValue):
            return dht_pb2.FindResult(
                type=dht_pb2.FOUND_REGULAR, value=found.value, expiration_time=found.expiration_time
            )
        return dht_pb2.FindResult(
            type=dht_pb2.FOUND_DICTIONARY,
            value=self.serializer.dumps(_some_of(found.value, self._random)),
            expiration_time=found.expiration_time,
        )

    # What this node asks

    async def call_find(self, peer: PeerID, keys: Collection[DHTID]) -> Found | None:
        """As hivemind's. Only nodes at their own place are named."""
        found: Found | None = await super().call_find(peer, keys)
        if found is None:
            return None
        return {key: (_dated(value), self._at_their_places(near)) for key, (value, near) in found.items()}

    def _at_their_places(self, nodes: dict[DHTID, PeerID]) -> dict[DHTID, PeerID]:
        placed = {node: peer for node, peer in nodes.items() if node == place_of_node(peer)}
        return dict([*placed.items()][: self.bucket_size])

    async def call_store(
        self, peer: PeerID, keys: Sequence[DHTID], values: Sequence[Any], *more: Any, **options: Any
    ) -> list[bool] | None:
        """As hivemind's, which sends all entries that a new node should have in one message."""
        if len(keys) == 1 and not isinstance(values[0], DictionaryDHTValue):
            return await self._call_store(peer, keys, values, *more, **options)
        expiry = more[0] if more else options["expiration_time"]
        stored: list[bool] = []
        for key, value, expires in zip(keys, values, expiry, strict=True):
            if isinstance(value, DictionaryDHTValue):
                value = _some_of(value, self._random)
            answer = await self._call_store(peer, [key], [value], [expires], in_cache=False)
            if answer is None:
                return None
            stored += answer
        return stored

    async def _call_store(
        self, peer: PeerID, keys: Sequence[DHTID], values: Sequence[Any], *more: Any, **options: Any
    ) -> list[bool] | None:
        answer: list[bool] | None = await super().call_store(peer, keys, values, *more, **options)
        return answer

    # Who is in the routing table

    async def _meet(self, sender: dht_pb2.NodeInfo, context: P2PContext) -> None:
        """Enter the sender of a message in the routing table."""
        if sender.node_id == place_of_node(context.remote_id).to_bytes():
            await self.update_routing_table(None, context.remote_id)

    async def update_routing_table(
        self, node_id: DHTID | None, peer_id: PeerID, responded: bool = True
    ) -> None:
        """As hivemind's, for nodes at their own place. Others than admitted ones do not enter."""
        place = place_of_node(peer_id)
        if not responded or (node_id in (None, place) and self._may_enter(peer_id)):
            await super().update_routing_table(place, peer_id, responded=responded)

    def _may_enter(self, peer: PeerID) -> bool:
        key: PublicKey | None = key_of(peer.to_bytes())
        access = Access.BANNED if key is None else self._guard.access(key)
        return access >= Access.ADMITTED or (peer in self._joined_by and access is not Access.BANNED)

    def _validate_dictionary(self, key_bytes: bytes, dictionary: DictionaryDHTValue) -> bool:
        """Leaves out what is invalid, such as a record whose admission has ended since it was stored."""
        with dictionary.freeze():
            for subkey, (value, expiry) in [*dictionary.items()]:
                if not self._validate_record(key_bytes, self.serializer.dumps(subkey), value, expiry):
                    del dictionary[subkey]
        return len(dictionary.data) > 0


def _dated(found: ValueWithExpiration | None) -> ValueWithExpiration | None:
    """With the expiry of the newest record. Its sender may claim any: a search ends at one that is late
    enough."""
    if found is None or not isinstance(found.value, DictionaryDHTValue):
        return found
    newest = max(entry.expiration_time for entry in found.value.data.values())
    return ValueWithExpiration(found.value, newest)


def _some_of(entry: DictionaryDHTValue, random: Random) -> DictionaryDHTValue:
    """As many of its records as an answer may have."""
    with entry.freeze():
        records = [*entry.items()]
    if sum(len(value) for _, (value, _) in records) <= MAX_ANSWER_BYTES:
        return entry
    chosen, left = DictionaryDHTValue(), MAX_ANSWER_BYTES
    for subkey, (value, expiry) in random.sample(records, len(records)):
        left -= len(value)
        if left < 0:
            break
        chosen.store(subkey, value, expiry)
    return chosen
