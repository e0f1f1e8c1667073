"""Which incoming streams are served: admitted keys first, and among equals those with the fewest."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnraise.contract.keys_in_force import KeysInForce
from barnraise.contract.standing import Standing, standings_of
from barnraise.contract.trust_spec import TrustSpec
from barnraise.core.ids import PublicKey
from barnraise.network.key_access import Access, KeyAccess
from barnraise.network.key_rates import KeyRates, Rate
from barnraise.network.peer_guard import PeerGuard
from barnraise.network.stream_limits import (
    LEFT_TO_ADMITTED,
    LONG_SECONDS,
    MAX_PARKED_PER_KEY,
    MAX_PER_KEY,
    MAX_STRANGERS,
    MAX_STREAMS,
    PARKED_SECONDS,
    IncomingStream,
    StreamLimits,
    stream_to_end,
)
from barnraise.network.streams import Stream
from tests.support import parts, virtual_time
from tests.support.transfers import key, stream_pair

V = TypeVar("V")
Slot = AbstractContextManager[IncomingStream | None]


class Node:
    """The limits of one protocol of a node, and streams for it."""

    def __init__(self, rates: KeyRates | None = None, banned: PublicKey | None = None) -> None:
        self.dropped: list[PublicKey] = []
        keys = parts.keys(key("closer"))
        self.keys = KeysInForce(keys.first, keys.position, TrustSpec(mode="open"))
        access = KeyAccess(self.keys, lambda each: each == banned)
        self.guard = PeerGuard(access, self.dropped.append)
        self.limits = StreamLimits(self.guard, rates)
        self.ours: list[Stream] = []
        self.theirs: list[Stream] = []
        self.slots: list[Slot] = []

    def admit(self, *names: str) -> None:
        for name in names:
            self.guard.admit(key(name))

    def trust(self, *names: str) -> None:
        trusted = standings_of({key(name): Standing("trusted") for name in names})
        self.keys.follow(replace(self.keys.position, standings=trusted))

    async def open(self, name: str) -> IncomingStream | None:
        """A stream of a peer. None where it is not served."""
        ours, theirs = await stream_pair()
        self.ours.append(ours)
        self.theirs.append(theirs)
        slot = self.limits.admitted(key(name), ours[1])
        self.slots.append(slot)
        return slot.__enter__()

    async def open_all(self, name: str, count: int) -> int:
        """How many of some streams of a peer are served."""
        return sum([await self.open(name) is not None for _ in range(count)])

    def ended(self) -> list[int]:
        return [number for number, (_, writer) in enumerate(self.ours) if writer.is_closing()]

    def close(self) -> None:
        for slot in self.slots:
            slot.__exit__(None, None, None)
        for _, writer in (*self.ours, *self.theirs):
            writer.close()


def play(scene: Callable[[Node], Awaitable[V]], node: Callable[[], Node] = Node) -> V:
    async def go() -> V:
        made = node()
        try:
            return await scene(made)
        finally:
            made.close()

    return virtual_time.run(go())


def test_each_key_gets_a_limited_number_of_streams() -> None:
    async def scene(node: Node) -> None:
        node.admit("ada")
        served = {name: await node.open_all(name, 20) for name in ("ada", "stranger", "closer")}
        assert list(served.values()) == [
            MAX_PER_KEY[Access.ADMITTED],
            MAX_PER_KEY[Access.STRANGER],
            MAX_PER_KEY[Access.RUN],
        ]

    play(scene)


def test_strangers_leave_the_places_of_admitted_keys_free() -> None:
    async def scene(node: Node) -> None:
        node.admit(*map(str, range(12)))
        served = [await node.open_all(f"stranger {number}", 8) for number in range(12)]
        assert min(served) >= 2, "a stranger with few streams takes the places of those with many"
        assert sum(served) - len(node.ended()) == MAX_STRANGERS
        assert sum([await node.open_all(str(number), 8) for number in range(12)]) == MAX_STREAMS

    play(scene)


def test_a_stranger_never_ends_a_stream_of_an_admitted_key() -> None:
    async def scene(node: Node) -> None:
        for number in range(12):
            node.admit(str(number))
            for _ in range(8):
                stream = await node.open(str(number))
                assert stream is not None
                stream.set_idle(True)
        assert await node.open("stranger") is None
        assert node.ended() == []
        assert await node.open("closer") is not None
        assert node.ended() == [0]

    play(scene)


def test_idle_streams_give_way_to_equals_and_served_ones_after_a_while() -> None:
    async def scene(node: Node) -> None:
        node.admit(*map(str, range(200)))
        held = [await node.open(str(number)) for number in range(MAX_STREAMS)]
        assert await node.open("100") is None
        for stream in held[5:7]:
            assert stream is not None
            stream.set_idle(True)
        assert await node.open("101") is not None
        assert await node.open("102") is not None
        assert node.ended() == [5, 6], "the one that is idle longest first"
        assert await node.open("103") is None
        await asyncio.sleep(LONG_SECONDS + 1)
        assert await node.open("104") is not None
        assert node.ended() == [0, 5, 6]

    play(scene)


def test_keys_that_hold_all_streams_do_not_take_turns() -> None:
    """Each stream that ended was opened again in the place of another one, without end."""

    async def scene(node: Node) -> None:
        node.admit("ada", *map(str, range(12)))
        for number in range(12):
            for _ in range(8):
                stream = await node.open(str(number))
                assert stream is not None
                stream.set_idle(True)
        assert await node.open("ada") is not None
        assert await node.open("ada") is not None
        assert node.ended() == [0, 8], "two keys have seven now"
        for number in range(12):
            assert await node.open(str(number)) is None
        assert node.ended() == [0, 8]

    play(scene)


def test_trusted_keys_come_before_those_on_probation_and_leave_some_places() -> None:
    async def scene(node: Node) -> None:
        trusted = [f"trusted {number}" for number in range(12)]
        node.admit(*map(str, range(12)), *trusted, "ada")
        node.trust(*trusted)
        for number in range(12):
            assert await node.open_all(str(number), 8) == 8
        served = [await node.open_all(name, 8) for name in trusted]
        assert sum(served) >= MAX_STREAMS - LEFT_TO_ADMITTED
        assert min(served) > 0
        flood = range(MAX_STREAMS)
        assert len({*node.ended()}.intersection(flood)) == MAX_STREAMS - LEFT_TO_ADMITTED
        assert await node.open_all("ada", 2) == 2
        assert len({*node.ended()}.intersection(flood)) == MAX_STREAMS - LEFT_TO_ADMITTED + 2

    async def with_trusted_ones_first(node: Node) -> None:
        trusted = [f"trusted {number}" for number in range(12)]
        node.admit("ada", *trusted)
        node.trust(*trusted)
        for name in trusted:
            assert await node.open_all(name, 8) == 8
        assert await node.open_all("ada", 8) == 8
        assert len(node.ended()) == 8

    play(scene)
    play(with_trusted_ones_first)


def test_a_key_with_many_streams_gives_way_to_one_with_few() -> None:
    """Twelve admitted keys of one person cannot hold all streams."""

    async def scene(node: Node) -> None:
        node.admit("ada", *map(str, range(12)))
        for number in range(12):
            assert await node.open_all(str(number), 8) == 8
        assert await node.open_all("ada", 4) == 4
        assert len(node.ended()) == 4

    play(scene)


def test_a_banned_key_is_served_nothing() -> None:
    async def scene(node: Node) -> None:
        node.admit("ada")
        assert await node.open("ada") is None
        assert node.dropped == [key("ada")]

    play(scene, lambda: Node(banned=key("ada")))


def test_a_key_that_goes_on_after_refusals_waits_and_is_disconnected() -> None:
    async def scene(node: Node) -> None:
        node.admit("ada")

        async def refused(name: str, count: int) -> list[bool]:
            """Whether each of some refused streams of a peer is ended at once."""
            first = len(node.ours)
            assert await node.open_all(name, count) == 0
            for _, writer in node.ours[first:]:
                node.limits.end(writer)
            return [writer.is_closing() for _, writer in node.ours[first:]]

        assert await node.open_all("stranger", 4) == 4
        assert await refused("stranger", 10) == [True] * 10
        assert await refused("stranger", MAX_PARKED_PER_KEY) == [False] * MAX_PARKED_PER_KEY
        assert node.dropped == []
        assert await refused("stranger", 1) == [True]
        assert node.dropped == [key("stranger")]
        assert await node.open_all("ada", 8) == 8, "others do not wait"
        await asyncio.sleep(PARKED_SECONDS + 1)
        assert all(writer.is_closing() for _, writer in node.ours[4 : 14 + MAX_PARKED_PER_KEY])
        assert not node.limits._parked

    play(scene)


def test_messages_of_a_key_have_a_rate() -> None:
    async def scene(node: Node) -> None:
        node.admit("ada")
        assert [await node.open_all(name, 4) for name in ("ada", "stranger", "closer")] == [2, 2, 4]
        await asyncio.sleep(4)
        assert [await node.open_all(name, 3) for name in ("ada", "stranger")] == [2, 2]

    rates = KeyRates({Access.STRANGER: Rate(1, 2), Access.ADMITTED: Rate(1, 2)}, together={})
    play(scene, lambda: Node(rates))


def test_a_peer_that_reads_nothing_leaves_no_stream_behind() -> None:
    """Closing waits for what is still to be sent, which is never read."""

    async def scene(node: Node) -> None:
        node.admit("ada", "ben", *map(str, range(12)))
        stream = await node.open("ada")
        assert stream is not None
        stream.writer.write(bytes(2**22))
        for number in range(12):
            await node.open_all(str(number), 8)
        await asyncio.sleep(LONG_SECONDS + 1)
        assert stream.writer.transport.get_write_buffer_size()
        stream.set_idle(True)
        assert await node.open("ben") is not None
        assert stream.writer.transport.is_closing()
        assert not stream.writer.transport.get_write_buffer_size()

    play(scene)


keys = st.sampled_from([*map(PublicKey, "abcdef")])


@given(st.lists(st.tuples(keys, st.sampled_from(Access), st.booleans(), st.integers(0, 60)), max_size=12))
@pytest.mark.parametrize("access", [each for each in Access if each is not Access.BANNED])
def test_only_lower_or_equal_access_gives_way(
    access: Access, given_streams: list[tuple[PublicKey, Access, bool, int]]
) -> None:
    writer: asyncio.StreamWriter = None  # type: ignore[assignment]
    streams = [IncomingStream(peer, of, writer, since, idle) for peer, of, idle, since in given_streams]
    held = Counter(stream.peer for stream in streams)
    ended = stream_to_end(streams, held, PublicKey("a"), access, 60.0)
    lower = {stream.access for stream in streams if stream.access < access}
    if access is Access.TRUSTED:
        lower.discard(Access.ADMITTED)  # few of them keep their places
    if ended is None or (access is Access.ADMITTED and ended.access is Access.TRUSTED):
        assert not lower
    else:
        assert ended.access is min(lower, default=access)
