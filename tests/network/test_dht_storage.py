"""What a node of the DHT keeps of what others store."""

from __future__ import annotations

import pytest
from hivemind.dht.routing import DHTID
from hivemind.utils import MSGPackSerializer, timed_storage

from barnraise.network import dht_storage
from barnraise.network.dht_storage import QUOTAS, BoundedStorage

ADA, BEN = "ada", "ben"


def key(name: object) -> DHTID:
    return DHTID.generate(source=str(name).encode())


def record(kind: str, text: str = "") -> bytes:
    return bytes(MSGPackSerializer.dumps(kind.encode() + text.encode()))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Of hivemind, which the test sets."""
    times = [0.0]
    monkeypatch.setattr(timed_storage, "get_dht_time", lambda: times[0])
    return times


def held(storage: BoundedStorage, subkey: str, names: range) -> list[int]:
    """The entries, of those with numbers for names, that have a record of `subkey`."""
    entries = {number: storage.get(key(number)) for number in names}
    return [number for number, entry in entries.items() if entry is not None and subkey in entry.value]


def test_the_newest_records_of_a_key_are_kept(clock: list[float]) -> None:
    storage = BoundedStorage()
    for number in range(100):
        assert storage.store(key(number), record("C"), 10.0 + number, subkey=ADA)
        assert storage.store(key(-number - 1), record("P"), 10.0 + number, subkey=ADA)
    assert held(storage, ADA, range(-100, 100)) == [-100, -99, 95, 96, 97, 98, 99]
    assert storage.store(key(3), record("C"), 9.0, subkey=BEN)
    assert held(storage, BEN, range(100)) == [3]
    assert (QUOTAS[b"C"], QUOTAS[b"P"]) == (5, 2)


@pytest.mark.parametrize("expires", [-1.0, 5.0, 10.0])
def test_an_older_record_that_is_replayed_takes_no_newer_one_s_place(
    clock: list[float], expires: float
) -> None:
    storage = BoundedStorage()
    for number in range(QUOTAS[b"P"]):
        assert storage.store(key(number), record("P"), 10.0 + number, subkey=ADA)
    assert not storage.store(key("another"), record("P"), expires, subkey=ADA)
    assert held(storage, ADA, range(QUOTAS[b"P"])) == [*range(QUOTAS[b"P"])]


def test_records_of_an_unknown_kind_are_not_kept(clock: list[float]) -> None:
    storage = BoundedStorage()
    assert not storage.store(key(1), record("X"), 10.0, subkey=ADA)
    assert not storage.store(key(1), bytes(MSGPackSerializer.dumps(["C"])), 10.0, subkey=ADA)


def test_the_same_record_again_costs_nothing(clock: list[float]) -> None:
    storage = BoundedStorage()
    assert storage.store(key(1), record("H"), 10.0)
    assert storage.store(key(2), record("C"), 10.0, subkey=ADA)
    for _ in range(10_000):
        assert not storage.store(key(1), record("H"), 10.0)
        assert not storage.store(key(2), record("C"), 10.0, subkey=ADA)
    assert len(storage.expiration_heap) < 10


def test_newer_records_of_a_key_take_the_place_of_older_ones(clock: list[float]) -> None:
    storage = BoundedStorage()
    for number in range(10_000):
        assert storage.store(key(1), record("P", str(number)), 10.0 + number, subkey=ADA)
    entry = storage.get(key(1))
    assert entry is not None
    assert entry.value.get(ADA).value == record("P", "9999")
    assert len(storage.expiration_heap) + len(entry.value.expiration_heap) < 500


def test_an_entry_and_all_of_them_have_a_bound(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dht_storage, "MAX_PER_ENTRY", 3)
    monkeypatch.setattr(dht_storage, "MAX_RECORDS", 5)
    storage = BoundedStorage()
    assert [storage.store(key(1), record("C"), 10.0, subkey=name) for name in "abcd"] == [True] * 3 + [False]
    assert [storage.store(key(2), record("C"), 20.0, subkey=name) for name in "def"] == [True] * 2 + [False]
    assert storage.store(key(1), record("C", "newer"), 11.0, subkey="a"), "it has a place"
    clock[0] = 15.0
    assert storage.store(key(3), record("C"), 20.0, subkey="f"), "what has expired takes none"
    assert storage.store(key(3), record("C"), 18.0, subkey="g")
    assert storage.store(key(3), record("C"), 20.0, subkey="h")
    assert not storage.store(key(2), record("C"), 20.0, subkey="i")
    clock[0] = 19.0
    assert storage.store(key(2), record("C"), 20.0, subkey="i")
    assert not storage.store(key(4), record("C"), 20.0, subkey="j")


def test_values_that_are_an_entry_have_places_of_their_own(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Admitted keys may name as many entries as they have records: the run's head is stored all the same."""
    monkeypatch.setattr(dht_storage, "MAX_RECORDS", 5)
    monkeypatch.setattr(dht_storage, "MAX_VALUES", 2)
    storage = BoundedStorage()
    assert [storage.store(key(each), record("C"), 20.0, subkey=each) for each in "abcde"] == [True] * 5
    assert [storage.store(key(each), record("H"), 20.0) for each in "fgh"] == [True, True, False]


def test_an_expired_record_of_a_trusted_key_drops_none(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody may send it, and name any time at which it expires."""
    monkeypatch.setattr(dht_storage, "MAX_PER_ENTRY", 1)
    storage = BoundedStorage(str.isupper)
    assert storage.store(key(1), record("C"), 30.0, subkey="a")
    clock[0] = 20.0
    assert not storage.store(key(1), record("C"), 19.0, subkey="A")
    assert held(storage, "a", range(2)) == [1]


def test_what_expired_by_a_clock_that_was_set_back_gives_way(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dht_storage, "MAX_PER_ENTRY", 2)
    monkeypatch.setattr(dht_storage, "MAX_RECORDS", 3)
    storage = BoundedStorage(str.isupper)
    for name, place, expires in [("a", 1, 18.0), ("b", 1, 30.0), ("c", 2, 30.0)]:
        assert storage.store(key(place), record("C"), expires, subkey=name)
    clock[0] = 19.0
    assert storage.store(key(2), record("C"), 30.0, subkey="d"), "in the place of what has expired"
    clock[0] = 17.0
    assert storage.store(key(1), record("C"), 30.0, subkey="A")
    assert held(storage, "A", range(3)) == [1]


def test_a_trusted_key_s_record_takes_the_place_of_another_one(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dht_storage, "MAX_PER_ENTRY", 3)
    monkeypatch.setattr(dht_storage, "MAX_RECORDS", 5)
    storage = BoundedStorage(str.isupper)
    assert [storage.store(key(1), record("C"), 10.0, subkey=name) for name in "abcd"] == [True] * 3 + [False]
    assert [storage.store(key(1), record("C"), 10.0, subkey=name) for name in "ABCD"] == [True] * 3 + [False]
    entry = storage.get(key(1))
    assert entry is not None
    assert sorted(each for each, _ in entry.value.items()) == ["A", "B", "C"]
    assert [storage.store(key(2), record("P"), 10.0, subkey=name) for name in "efE"] == [True] * 3
    assert held(storage, "e", range(5)) == []
    assert [storage.store(key(3), record("P"), 10.0, subkey=name) for name in "gF"] == [False, True]
    assert held(storage, "f", range(5)) == []
    assert not storage.store(key(3), record("P"), 10.0, subkey="G"), "all are trusted"


def test_an_older_record_of_a_trusted_key_drops_none(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dht_storage, "MAX_PER_ENTRY", 1)
    storage = BoundedStorage(str.isupper)
    for number in range(QUOTAS[b"P"]):
        assert storage.store(key(number), record("P"), 10.0 + number, subkey="A")
    assert storage.store(key("another"), record("P"), 10.0, subkey="a")
    assert not storage.store(key("another"), record("P"), 9.0, subkey="A")
    assert storage.store(key("another"), record("P"), 20.0, subkey="A")


def test_entries_without_a_record_are_not_kept(clock: list[float]) -> None:
    """One key could name any number of them."""
    storage = BoundedStorage()
    for number in range(1000):
        assert storage.store(key(number), record("P"), 10.0 + number, subkey=ADA)
    assert len(storage.data) == QUOTAS[b"P"]
    assert len(storage.expiration_heap) < 200
