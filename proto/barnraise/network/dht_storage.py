"""What a node of the DHT keeps: a bounded number of records of each key, of each entry, and of all.

hivemind's storage is bounded by time alone, so a key that may store one record may store any number. In open
runs keys are cheap too: where there is no room, a record of a trusted key takes the place of another one.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hivemind.dht.routing import DHTID
from hivemind.dht.storage import DHTLocalStorage, DictionaryDHTValue
from hivemind.utils import MSGPackSerializer, timed_storage
from hivemind.utils.timed_storage import TimedStorage

QUOTAS: Mapping[bytes, int] = {b"P": 2, b"C": 5, b"H": 1}
"""Records of one key that are kept, by kind (`barnraise.contract.records.tagged`): heartbeats under the
entries of before and after the swarm grew, and commits to the rounds that are near the open one."""
MAX_PER_ENTRY = 1024
"""Records of one entry, as many as contributions to a round."""
MAX_RECORDS = 16_384
"""Records of all entries: 50 MB where all are as large as one may be, and 13 MB of usual ones."""
MAX_VALUES = 16
"""Values that are the whole of an entry, as the run's head is, where all other entries have a record."""
SLACK = 64
"""hivemind notes each change of an expiry, and forgets a note when it expires. More than two notes a record,
and these, are not kept."""


class BoundedStorage(DHTLocalStorage):
    """Refuses what is over a bound. Of a key over its own, the record that expires first is dropped."""

    def __init__(self, trusts: Callable[[Any], bool] = lambda _: False) -> None:
        """trusts: whether the key that is a record's subkey is trusted."""
        super().__init__()
        self._trusts = trusts
        self._kept: dict[tuple[Any, bytes], dict[DHTID, float]] = {}
        """By subkey and kind, which entries have a record, and when that expires."""
        self._count = 0
        self._next_expiry = float("-inf")
        """No record that is kept expires before this: a flood costs no look at all of them each time."""

    def store(self, key: DHTID, value: bytes, expiration_time: float, subkey: Any = None) -> bool:
        """As hivemind's."""
        if subkey is not None:
            return self.store_subkey(key, subkey, value, expiration_time)
        known = self.get(key)
        if known is None and len(self.data) >= MAX_RECORDS + MAX_VALUES:
            return False
        if known is not None and known.expiration_time >= expiration_time:
            return False  # hivemind would note the expiry of a value that it refuses
        stored = bool(super().store(key, value, expiration_time))
        _forget_notes(self)
        return stored

    def store_subkey(self, key: DHTID, subkey: Any, value: bytes, expiration_time: float) -> bool:
        """As hivemind's."""
        if expiration_time < timed_storage.get_dht_time():
            return False  # hivemind refuses it too, when others were dropped for it
        found = self.get(key)
        entry = found.value if found is not None and isinstance(found.value, DictionaryDHTValue) else None
        known = None if entry is None else entry.get(subkey)
        if known is not None and known.expiration_time >= expiration_time:
            return False
        kind = _kind(value)
        if known is None and not self._has_room(key, entry, subkey, kind, expiration_time):
            return False
        stored = bool(super().store_subkey(key, subkey, value, expiration_time))
        if stored:
            self._note(key, subkey, kind, expiration_time)
        _forget_notes(self)
        if entry is not None:
            _forget_notes(entry)
        return stored

    def _has_room(
        self,
        key: DHTID,
        entry: DictionaryDHTValue | None,
        subkey: Any,
        kind: bytes,
        expiration_time: float,
    ) -> bool:
        """Whether there is room for one more record, after others are dropped if need be: the key's oldest,
        and where it is trusted, those of keys that are not. A replayed one that would be the oldest drops
        none.
        """
        dropped: list[tuple[DHTID, Any, bytes]] = []
        own = self._kept.get((subkey, kind), {})
        if len(own) >= QUOTAS.get(kind, 0):
            first = min(own, key=own.__getitem__, default=None)
            if first is None or own[first] >= expiration_time:
                return False
            dropped.append((first, subkey, kind))
        if entry is not None and len(entry) >= MAX_PER_ENTRY:
            other = self._untrusted((each for each, _ in entry.items()), subkey)
            if other is None:
                return False
            dropped.append((key, other, kind))
        if not dropped and not self._has_room_in_all(subkey):
            return False
        for place in dropped:
            self._drop(*place)
        return True

    def _has_room_in_all(self, subkey: Any) -> bool:
        if self._count < MAX_RECORDS:
            return True
        self._forget_expired()
        if self._count < MAX_RECORDS:
            return True
        other = self._untrusted((each for each, _ in self._kept), subkey)
        if other is None:
            return False
        for kind in QUOTAS:
            for key in [*self._kept.get((other, kind), ())]:
                self._drop(key, other, kind)
        return True

    def _untrusted(self, subkeys: Iterable[Any], newcomer: Any) -> Any | None:
        """One of a key that is not trusted, where the newcomer is."""
        if not self._trusts(newcomer):
            return None
        return next((subkey for subkey in subkeys if not self._trusts(subkey)), None)

    def _note(self, key: DHTID, subkey: Any, kind: bytes, expiration_time: float) -> None:
        own = self._kept.setdefault((subkey, kind), {})
        self._count += key not in own
        own[key] = expiration_time
        self._next_expiry = min(self._next_expiry, expiration_time)

    def _drop(self, key: DHTID, subkey: Any, kind: bytes) -> None:
        own = self._kept.get((subkey, kind), {})
        self._count -= own.pop(key, None) is not None  # one that had expired when the clock was ahead is not
        if not own:
            self._kept.pop((subkey, kind), None)
        entry = self.get(key)
        if entry is not None and isinstance(entry.value, DictionaryDHTValue):
            del entry.value[subkey]
            if not entry.value.data:  # a key may name any number of entries
                del self[key]

    def _forget_expired(self) -> None:
        now = timed_storage.get_dht_time()  # which `RecordDht` replaces
        if now <= self._next_expiry:
            return
        live = {
            place: {key: expiry for key, expiry in own.items() if expiry >= now}
            for place, own in self._kept.items()
        }
        self._kept = {place: own for place, own in live.items() if own}
        self._count = sum(map(len, self._kept.values()))
        self._next_expiry = min((min(own.values()) for own in self._kept.values()), default=float("inf"))


def _kind(value: bytes) -> bytes:
    """The kind of a record that the validator passed."""
    record = MSGPackSerializer.loads(value)
    return bytes(record[:1]) if isinstance(record, bytes) else b""


def _forget_notes(storage: TimedStorage) -> None:
    """Forget the expiries that were changed since."""
    if len(storage.expiration_heap) > 2 * len(storage.data) + SLACK:
        storage.expiration_heap = list(storage.key_to_heap.values())
        heapq.heapify(storage.expiration_heap)
