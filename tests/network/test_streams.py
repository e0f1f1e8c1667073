"""How many streams peers may have open with a node."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from barnraise.network.streams import MAX_STREAMS, MAX_STREAMS_PER_PEER, Stream, StreamLimits
from tests.support import virtual_time
from tests.support.transfers import stream_pair

V = TypeVar("V")


def with_streams(count: int, scene: Callable[[list[Stream]], Awaitable[V]]) -> V:
    async def play() -> V:
        pairs = [await stream_pair() for _ in range(count)]
        try:
            return await scene([ours for ours, _ in pairs])
        finally:
            for (_, one), (_, two) in pairs:
                one.close()
                two.close()

    return virtual_time.run(play())


def test_one_peer_gets_a_limited_number_of_streams() -> None:
    async def scene(streams: list[Stream]) -> None:
        limits = StreamLimits()
        slots = [limits.admitted("ada", writer) for _, writer in streams]
        streams_held = [slot.__enter__() for slot in slots]
        assert [stream is not None for stream in streams_held] == [True] * MAX_STREAMS_PER_PEER + [False]
        with limits.admitted("ben", streams[0][1]) as other:
            assert other is not None
        for slot in slots:
            slot.__exit__(None, None, None)
        with limits.admitted("ada", streams[0][1]) as again:
            assert again is not None
        assert not limits._per_peer

    with_streams(MAX_STREAMS_PER_PEER + 1, scene)


def test_idle_streams_are_evicted_and_served_ones_are_not() -> None:
    async def scene(streams: list[Stream]) -> None:
        limits = StreamLimits()
        slots = [limits.admitted(str(number), writer) for number, (_, writer) in enumerate(streams)]
        streams_held = [slot.__enter__() for slot in slots[:MAX_STREAMS]]
        for stream in streams_held[5:8]:
            assert stream is not None
            limits.set_idle(stream, True)
        for evicted in ([5], [5, 6], [5, 6, 7]):
            assert slots[MAX_STREAMS + len(evicted) - 1].__enter__() is not None
            closed = [number for number, (_, writer) in enumerate(streams) if writer.is_closing()]
            assert closed == evicted, "the one that is idle longest first"
        assert slots[-1].__enter__() is None
        for slot in slots:
            slot.__exit__(None, None, None)

    with_streams(MAX_STREAMS + 4, scene)
