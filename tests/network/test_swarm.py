"""Two real nodes on this machine: what they tell and give each other, and what a hostile one cannot."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import psutil
import pytest
from hivemind.dht.protocol import DHTProtocol
from hivemind.dht.routing import DHTID

from barnraise.contract.pieces import PIECE_BYTES, Wanted, piece_list, pieces_hash
from barnraise.contract.records import Commit, Head, Presence, Record, dht_key_of, seal
from barnraise.core.errors import Unreachable
from barnraise.core.identity import Identity
from barnraise.core.ids import Millis, Round, blob_hash
from barnraise.network.blobs.transfer import PIECE_PROTOCOL, WHOLE_PROTOCOL
from barnraise.network.peer_ids import remove_stale_sockets
from barnraise.network.swarm import Swarm
from barnraise.runtime.blob_store import BlobStore
from tests.support import parts

# hivemind 1.1.12 finds its daemon in a way that Python is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:path is deprecated:DeprecationWarning")

V = TypeVar("V")
HERE = "/ip4/127.0.0.1/tcp/0"
NOW = Millis(0)
"""When the test began: hivemind drops what has expired by this machine's clock."""
BLOB = np.random.default_rng(0).bytes(3 * 2**20)
NAME = blob_hash(BLOB)
WANTED = Wanted(NAME, len(BLOB), pieces_hash(BLOB), parts.STRANGER.public)


@pytest.fixture(autouse=True)
def _today(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "NOW", Millis(time.time_ns() // 1_000_000))


@asynccontextmanager
async def node(
    folder: Path, who: Identity, near: Swarm | None = None, announce: Sequence[str] = ()
) -> AsyncIterator[Swarm]:
    place = folder / who.public[:8]
    place.mkdir(exist_ok=True)
    swarm = await Swarm.start(
        who,
        parts.RUN,
        parts.AUTHORITY.public,
        clock=lambda: NOW,
        blobs=BlobStore(place / "blobs"),
        folder=place,
        listen=HERE,
        bootstrap=() if near is None else await near.addresses(),
        announce=announce,
    )
    try:
        yield swarm
    finally:
        await swarm.stop()


def with_two(folder: Path, scene: Callable[[Swarm, Swarm], Awaitable[V]]) -> V:
    """Play a scene between the coordinator's node and Ada's."""

    async def play() -> V:
        async with node(folder, parts.AUTHORITY) as coordinator, node(folder, parts.ADA, coordinator) as ada:
            return await scene(coordinator, ada)

    return asyncio.run(play())


def admission(of: Identity, by: Identity = parts.AUTHORITY) -> str:
    return parts.admission(of, by=by, expires=NOW + 1_000_000)


def presence(of: Identity = parts.ADA, *, admitted: str = "", name: str = "ada", later: int = 0) -> Presence:
    return parts.presence(of, admission=admitted or admission(of), name=name, at=NOW + later)


def commit(round: int) -> Commit:
    return parts.commit(parts.ADA, round=round, admission=admission(parts.ADA))


def head(round: int = 0, later: int = 0) -> Head:
    return parts.head(round=round, opens=NOW, at=NOW + later)


async def in_dht(swarm: Swarm) -> list[Record]:
    """The heartbeats that the DHT has."""
    return [signed.value for signed in await swarm._look_up(dht_key_of(presence()).key, newest=True)]


# Records


def test_an_announced_address_is_told_for_both_transports(tmp_path: Path) -> None:
    async def play() -> set[str]:
        async with node(tmp_path, parts.AUTHORITY, announce=["/dns4/run.example.org/tcp/7452"]) as swarm:
            return {address.rpartition("/p2p/")[0] for address in await swarm.addresses()}

    assert asyncio.run(play()) == {
        "/dns4/run.example.org/tcp/7452",
        "/dns4/run.example.org/udp/7452/quic-v1",
    }


def test_what_is_published_is_collected(tmp_path: Path) -> None:
    async def scene(coordinator: Swarm, ada: Swarm) -> None:
        assert await ada.publish(presence())
        assert await ada.publish(commit(round=3))
        assert await coordinator.publish(head(round=3))
        assert await coordinator.peers() == await ada.peers() == [presence()]
        (found,) = await coordinator.commits(Round(3))
        assert (found.value, found.signer) == (commit(round=3), parts.ADA.public)
        assert await coordinator.commits(Round(4)) == []
        assert await ada.heads() == [head(round=3)]

    with_two(tmp_path, scene)


def test_what_is_told_is_heard_without_another_look(tmp_path: Path) -> None:
    """The clock stands still, so that no node looks at the DHT a second time."""

    async def scene(coordinator: Swarm, ada: Swarm) -> None:
        await coordinator.publish(head(round=3))
        await ada.publish(presence())
        assert await coordinator.peers() == [presence()]
        assert await ada.heads() == [head(round=3)]
        await ada.publish(presence(name="ada2", later=1000))
        await coordinator.publish(head(round=4, later=1000))
        while [there.name for there in await coordinator.peers()] != ["ada2"]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        while [found.round for found in await ada.heads()] != [4]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    with_two(tmp_path, lambda *both: asyncio.wait_for(scene(*both), 60))


CLEO = Identity.from_seed(b"c" * 32)


def spoilt(value: bytes) -> bytes:
    return value[:-2] + bytes([value[-2] ^ 1]) + value[-1:]


async def force(
    swarm: Swarm, record: Record, value: bytes, *, at: Record | None = None, ttl: float = 20
) -> bool:
    """Store as a program does that checks nothing; where `at` belongs, if that is given."""
    place = dht_key_of(at or record)
    return bool(await swarm._node.store(place.key, value, time.time() + ttl, subkey=place.subkey))


def test_what_a_hostile_node_says_is_stored_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ben, stranger = parts.BEN, parts.STRANGER
    forged = presence(stranger, admitted=admission(stranger, by=stranger))
    told = presence(ben, name="ben")
    ended = presence(stranger, admitted=parts.admission(stranger, expires=NOW - 1))

    async def scene(coordinator: Swarm, hostile: Swarm) -> None:
        monkeypatch.setattr(hostile._node.protocol, "record_validator", None)
        assert await coordinator.publish(head(round=5))
        refused = {
            "signature": await force(hostile, told, spoilt(seal(ben, told))),
            "signed by another": await force(hostile, told, seal(parts.ADA, told)),
            "at another's place": await force(hostile, presence(), seal(parts.ADA, presence()), at=told),
            "no admission": await force(hostile, forged, seal(stranger, forged)),
            "an admission that ended": await force(hostile, ended, seal(stranger, ended)),
            "an admission of another": await force(
                hostile,
                told,
                seal(stranger, presence(stranger, admitted=admission(ben))),
                at=presence(stranger),
            ),
            "a head of no authority": await force(hostile, head(round=9), seal(parts.ADA, head(round=9))),
            "no record": await force(hostile, told, b"junk"),
        }
        assert refused == dict.fromkeys(refused, False)
        assert await in_dht(coordinator) == []
        assert [found.round for found in await coordinator.heads()] == [5]
        assert await force(hostile, told, seal(ben, told)), "an honest record passes the same way"
        assert await in_dht(coordinator) == [told]

    with_two(tmp_path, scene)


def test_an_old_head_is_not_kept_alive_beyond_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = head(round=2, later=-60_000)

    async def scene(coordinator: Swarm, hostile: Swarm) -> None:
        monkeypatch.setattr(hostile._node.protocol, "record_validator", None)
        assert await coordinator.publish(head(round=5))
        assert not await force(hostile, old, seal(parts.AUTHORITY, old), ttl=3800)
        assert [found.round for found in await coordinator.heads()] == [5]

    with_two(tmp_path, scene)


def test_records_that_are_answered_are_checked_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that stores what it likes cannot make others believe it."""
    forged = presence(parts.BEN, admitted=admission(parts.BEN, by=parts.STRANGER))

    async def scene(coordinator: Swarm, hostile: Swarm) -> None:
        monkeypatch.setattr(hostile._node.protocol, "record_validator", None)
        keep(hostile, seal(parts.BEN, presence(parts.BEN)), ttl=10)
        assert await in_dht(coordinator) == [presence(parts.BEN)], "an honest record is read this way"
        keep(hostile, seal(parts.BEN, forged), ttl=20)
        assert await hostile._node.get(place.key, latest=True) is not None
        assert await in_dht(coordinator) == []

    place = dht_key_of(forged)

    def keep(hostile: Swarm, value: bytes, ttl: float) -> None:
        key, told = DHTID.generate(source=place.key), DHTProtocol.serializer.dumps(value)
        assert hostile._node.protocol.storage.store_subkey(key, place.subkey, told, time.time() + ttl)

    with_two(tmp_path, scene)


# Blobs


def test_a_blob_is_fetched_and_counted(tmp_path: Path) -> None:
    async def scene(coordinator: Swarm, ada: Swarm) -> None:
        ada._blobs.put(BLOB)
        path = await coordinator.fetch(NAME, len(BLOB), [parts.ADA.public])
        assert path.read_bytes() == BLOB
        assert (coordinator.traffic.down, ada.traffic.up) == (len(BLOB), len(BLOB))
        assert await ada.wait_served(NAME, timeout=60)
        again = await coordinator.fetch(NAME, len(BLOB), [])
        assert (again, coordinator.traffic.down) == (path, len(BLOB)), "what is here is not fetched again"

    with_two(tmp_path, scene)


def test_a_part_that_is_here_is_not_fetched_again(tmp_path: Path) -> None:
    async def scene(coordinator: Swarm, ada: Swarm) -> None:
        ada._blobs.put(BLOB)
        coordinator._blobs.partial(NAME).write_bytes(BLOB[:2_000_000])
        await coordinator.fetch(NAME, len(BLOB), [parts.ADA.public])
        assert coordinator._blobs.get(NAME) == BLOB
        assert coordinator.traffic.down == len(BLOB) - 2_000_000

    with_two(tmp_path, scene)


def test_the_next_holder_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ada does not hold it, Ben serves junk of the right size, the coordinator has it."""

    async def scene(coordinator: Swarm, ada: Swarm) -> None:
        coordinator._blobs.put(BLOB)
        async with node(tmp_path, parts.BEN, coordinator) as ben, node(tmp_path, parts.STRANGER, ben) as late:
            junk = ben._blobs.path(NAME)
            junk.parent.mkdir(parents=True)
            junk.write_bytes(bytes(len(BLOB)))
            with pytest.raises(Unreachable) as nobody:
                await late.fetch(NAME, len(BLOB), [parts.ADA.public, parts.BEN.public])
            assert "it does not hold it" in nobody.value.problem
            assert "got bytes that hash to" in nobody.value.problem
            assert not late._blobs.partial(NAME).exists(), "junk would be resumed"
            holders = [parts.ADA.public, parts.BEN.public, parts.AUTHORITY.public]
            await late.fetch(NAME, len(BLOB), holders)
            assert late._blobs.get(NAME) == BLOB

    with_two(tmp_path, scene)


def test_more_than_was_promised_is_not_read(tmp_path: Path) -> None:
    async def scene(coordinator: Swarm, ada: Swarm) -> None:
        ada._blobs.put(BLOB)
        with pytest.raises(Unreachable, match=f"it offers {len(BLOB)} bytes, not 1000"):
            await coordinator.fetch(NAME, 1000, [parts.ADA.public])
        assert coordinator.traffic.down == 0

    with_two(tmp_path, scene)


def test_a_blob_that_nobody_is_known_to_hold_is_told(tmp_path: Path) -> None:
    async def scene(coordinator: Swarm, _: Swarm) -> None:
        with pytest.raises(Unreachable, match="no holder is known"):
            await coordinator.fetch(NAME, len(BLOB), [])

    with_two(tmp_path, scene)


@pytest.mark.parametrize("request_bytes", [bytes(40), bytes(32) + b"\xff" * 8])
def test_a_request_for_what_is_not_held_is_answered(tmp_path: Path, request_bytes: bytes) -> None:
    async def scene(coordinator: Swarm, ada: Swarm) -> None:
        _, reader, writer = await coordinator._p2p.call_binary_stream_handler(
            ada._p2p.peer_id, WHOLE_PROTOCOL
        )
        writer.write(request_bytes)
        assert await asyncio.wait_for(reader.readexactly(8), 60) == b"\xff" * 8
        writer.close()

    with_two(tmp_path, scene)


def test_an_offset_behind_the_end_gives_no_bytes(tmp_path: Path) -> None:
    async def scene(coordinator: Swarm, ada: Swarm) -> None:
        ada._blobs.put(b"short")
        name = blob_hash(b"short")
        _, reader, writer = await coordinator._p2p.call_binary_stream_handler(
            ada._p2p.peer_id, WHOLE_PROTOCOL
        )
        writer.write(bytes.fromhex(name) + (2**64 - 1).to_bytes(8, "little"))
        assert await asyncio.wait_for(reader.readexactly(8), 60) == (5).to_bytes(8, "little")
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 60) == b""
        writer.close()

    with_two(tmp_path, scene)


# Blobs in pieces


def has_pieces(swarm: Swarm, *indices: int) -> None:
    """As if an earlier try had brought these, before the program was started again."""
    blobs = swarm._blobs
    blobs.listing(NAME).write_bytes(piece_list(BLOB))
    part = bytearray(len(BLOB))
    for index in indices:
        place = slice(index * PIECE_BYTES, (index + 1) * PIECE_BYTES)
        part[place] = BLOB[place]
    blobs.in_pieces(NAME).write_bytes(part)


def test_halves_of_two_and_junk_of_a_third_make_a_whole(tmp_path: Path) -> None:
    """The owner is gone. Ada and Ben have a half each, the coordinator serves junk."""

    async def scene(coordinator: Swarm, ada: Swarm) -> None:
        async with node(tmp_path, parts.BEN, coordinator) as ben, node(tmp_path, CLEO, ada) as cleo:
            junk = coordinator._blobs.path(NAME)
            coordinator._blobs.listing(NAME).write_bytes(piece_list(BLOB))
            junk.write_bytes(bytes(len(BLOB)))
            has_pieces(ada, *range(6))
            has_pieces(ben, *range(6, 12))
            everybody = [parts.STRANGER, parts.AUTHORITY, parts.ADA, parts.BEN, CLEO]
            holders = [who.public for who in everybody]
            paths = await asyncio.gather(*(swarm.fetch_pieces(WANTED, holders) for swarm in (ada, ben, cleo)))
            assert [blob_hash(path.read_bytes()) for path in paths] == [NAME] * 3
            assert cleo.traffic.down >= len(BLOB)
            assert min(ada.traffic.up, ben.traffic.up) > 0

    with_two(tmp_path, scene)


def test_a_contribution_goes_out_in_pieces(tmp_path: Path) -> None:
    async def scene(coordinator: Swarm, ada: Swarm) -> None:
        ada._blobs.put(BLOB)
        path = await coordinator.fetch_pieces(WANTED, [parts.ADA.public])
        assert path.read_bytes() == BLOB
        assert await ada.wait_served(NAME, timeout=60)

    with_two(tmp_path, scene)


def test_what_is_no_request_for_a_piece_ends_the_stream(tmp_path: Path) -> None:
    async def scene(coordinator: Swarm, ada: Swarm) -> None:
        ada._blobs.put(BLOB)
        _, reader, writer = await coordinator._p2p.call_binary_stream_handler(
            ada._p2p.peer_id, PIECE_PROTOCOL
        )
        writer.write(b"\xff" * 44)
        assert await asyncio.wait_for(reader.read(), 60) == b""
        writer.close()

    with_two(tmp_path, scene)


# Daemons and sockets


def sockets_of(process: int) -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob(f"barnraise-{process}-*"))


def daemons() -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if child.name() == "p2pd"]


def test_nothing_is_left_when_a_node_stops(tmp_path: Path) -> None:
    async def scene(coordinator: Swarm, ada: Swarm) -> None:
        assert len(daemons()) == 2
        assert sockets_of(os.getpid())

    with_two(tmp_path, scene)
    assert daemons() == []
    assert sockets_of(os.getpid()) == []


def test_sockets_of_dead_programs_are_removed_and_no_others() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    folder = Path(tempfile.gettempdir())
    dead, living, foreign = (
        folder / f"barnraise-{name}-p2pd-test.sock" for name in (ended.pid, os.getpid(), "x")
    )
    try:
        for path in (dead, living, foreign):
            path.touch()
        remove_stale_sockets()
        assert [path.exists() for path in (dead, living, foreign)] == [False, True, True]
    finally:
        for path in (dead, living, foreign):
            path.unlink(missing_ok=True)
