"""What a node of the DHT keeps: a bounded number of records of each key, of each entry, and of all.

hivemind's storage is bounded by time alone, so a key that may store one record may store any number.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
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
SLACK = 64
"""hivemind notes each change of an expiry, and forgets a note when it expires. More than two notes a record,
and these, are not kept."""


class BoundedStorage(DHTLocalStorage):
    """Refuses what is over a bound. Of a key over its own, the record that expires first is dropped."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[tuple[Any, bytes], dict[DHTID, float]] = {}
        """By subkey and kind, which entries have a record, and when that expires."""
        self._count = 0

    def store(self, key: DHTID, value: bytes, expiration_time: float, subkey: Any = None) -> bool:
        """As hivemind's."""
        if subkey is not None:
            return self.store_subkey(key, subkey, value, expiration_time)
        known = self.get(key)
        if known is None and len(self.data) >= MAX_RECORDS:
            return False
        if known is not None and known.expiration_time >= expiration_time:
            return False  # hivemind would note the expiry of a value that it refuses
        stored = bool(super().store(key, value, expiration_time))
        _forget_notes(self)
        return stored

    def store_subkey(self, key: DHTID, subkey: Any, value: bytes, expiration_time: float) -> bool:
        """As hivemind's."""
        found = self.get(key)
        entry = found.value if found is not None and isinstance(found.value, DictionaryDHTValue) else None
        known = None if entry is None else entry.get(subkey)
        if known is not None and known.expiration_time >= expiration_time:
            return False
        kind = _kind(value)
        if known is None and not self._has_room(entry, subkey, kind, expiration_time):
            return False
        stored = bool(super().store_subkey(key, subkey, value, expiration_time))
        if stored:
            self._note(key, subkey, kind, expiration_time)
        _forget_notes(self)
        if entry is not None:
            _forget_notes(entry)
        return stored

    def _has_room(
        self, entry: DictionaryDHTValue | None, subkey: Any, kind: bytes, expiration_time: float
    ) -> bool:
        """Whether there is room for one more record of a key, after its oldest is dropped if need be.

        A replayed one that would be the oldest drops none.
        """
        if entry is not None and len(entry) >= MAX_PER_ENTRY:
            return False
        if self._count >= MAX_RECORDS:
            self._forget_expired()
            if self._count >= MAX_RECORDS:
                return False
        own = self._kept.get((subkey, kind), {})
        if len(own) >= QUOTAS.get(kind, 0):
            first = min(own, key=own.__getitem__, default=None)
            if first is None or own[first] >= expiration_time:
                return False
            self._drop(first, subkey, kind)
        return True

    def _note(self, key: DHTID, subkey: Any, kind: bytes, expiration_time: float) -> None:
        own = self._kept.setdefault((subkey, kind), {})
        self._count += key not in own
        own[key] = expiration_time

    def _drop(self, key: DHTID, subkey: Any, kind: bytes) -> None:
        own = self._kept[subkey, kind]
        del own[key]
        self._count -= 1
        entry = self.get(key)
        if entry is not None and isinstance(entry.value, DictionaryDHTValue):
            del entry.value[subkey]

    def _forget_expired(self) -> None:
        now = timed_storage.get_dht_time()  # which `RecordDht` replaces
        live = {
            place: {key: expiry for key, expiry in own.items() if expiry >= now}
            for place, own in self._kept.items()
        }
        self._kept = {place: own for place, own in live.items() if own}
        self._count = sum(map(len, self._kept.values()))


def _kind(value: bytes) -> bytes:
    """The kind of a record that the validator passed."""
    record = MSGPackSerializer.loads(value)
    return bytes(record[:1]) if isinstance(record, bytes) else b""


def _forget_notes(storage: TimedStorage) -> None:
    """Forget the expiries that were changed since."""
    if len(storage.expiration_heap) > 2 * len(storage.data) + SLACK:
        storage.expiration_heap = list(storage.key_to_heap.values())
        heapq.heapify(storage.expiration_heap)
