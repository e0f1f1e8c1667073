"""Rate limits: the token bucket, and rates as people write them."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnraise.core.errors import UserError
from barnraise.network.blobs.rate_limiter import MAX_CHUNK, RateLimiter, TokenBucket, chunk_bytes, parse_rate
from barnraise.network.timing import TIMING
from tests.support import virtual_time


@given(
    rate=st.integers(8_000, 10**8),
    takes=st.lists(st.tuples(st.floats(0, 5), st.integers(1, MAX_CHUNK)), min_size=1, max_size=40),
)
def test_it_grants_never_more_than_the_rate_and_a_burst(rate: int, takes: list[tuple[float, int]]) -> None:
    """In any span of time: rate x time, a burst, and the chunk that is being moved."""
    bucket, now = TokenBucket(rate), 0.0
    passed: list[tuple[float, int]] = []
    for pause, count in takes:
        now += pause
        now += bucket.take(count, now)
        passed.append((now, count))
    for first, (began, _) in enumerate(passed):
        for last, (ended, _) in enumerate(passed[first:], start=first):
            total = sum(count for _, count in passed[first : last + 1])
            chunk = passed[first][1]
            assert total <= rate * (ended - began + TIMING.rate_burst) + chunk + 1e-3 * rate


def test_a_busy_bucket_grants_its_whole_rate() -> None:
    bucket, now = TokenBucket(1000.0), 0.0
    for _ in range(100):
        now += bucket.take(100, now)
    assert now == pytest.approx((100 * 100 - 1000 * TIMING.rate_burst) / 1000)


def test_streams_take_turns() -> None:
    """Two streams under one cap move the same amount, and the cap together."""

    async def scene() -> tuple[int, int]:
        limiter, moved = RateLimiter(100_000), [0, 0]

        async def stream(which: int) -> None:
            while True:
                await limiter.acquire(limiter.chunk)
                moved[which] += limiter.chunk

        tasks = [asyncio.create_task(stream(which)) for which in (0, 1)]
        await asyncio.sleep(10)
        for task in tasks:
            task.cancel()
        return moved[0], moved[1]

    one, two = virtual_time.run(scene())
    assert abs(one - two) <= 2 * chunk_bytes(100_000)
    assert one + two == pytest.approx(1_000_000, rel=0.02)


@pytest.mark.parametrize("rate", [100_000, None])
def test_a_stream_in_the_background_stays_alive_and_takes_what_others_leave(rate: int | None) -> None:
    async def scene() -> tuple[float, float, float]:
        limiter = RateLimiter(rate)

        async def busy() -> None:
            while True:
                await limiter.acquire(limiter.chunk)
                await asyncio.sleep(0.01)

        async def seconds() -> float:
            began = asyncio.get_running_loop().time()
            await limiter.acquire_in_background(limiter.chunk)
            return asyncio.get_running_loop().time() - began

        alone = await seconds()
        other = asyncio.create_task(busy())
        await asyncio.sleep(0.1)
        during = await seconds()
        other.cancel()
        await asyncio.sleep(TIMING.background_wait)
        return alone, during, await seconds()

    alone, during, after = virtual_time.run(scene())
    assert alone < 0.1
    assert TIMING.background_wait <= during < TIMING.stall / 2
    assert after < 0.1


def test_without_a_cap_nothing_waits() -> None:
    async def scene() -> float:
        limiter = RateLimiter(None)
        for _ in range(1000):
            await limiter.acquire(10**9)
        return asyncio.get_running_loop().time()

    assert virtual_time.run(scene()) == 0.0


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("5Mbit", 625_000), ("600kbit", 75_000), ("1MB", 1_000_000), ("1.5MB/s", 1_500_000),
        (" 20 Mbps ", 2_500_000), ("1Gbit/s", 125_000_000), ("100KB", 100_000), ("64kbit", 8_000),
        ("80000bit", 10_000), ("10000B", 10_000), ("8mbit", 1_000_000), ("2MBps", 2_000_000),
    ],
)  # fmt: skip
def test_rates_are_parsed(text: str, rate: int) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    "text", ["5", "5M", "5Mb", "5mb", "-5Mbit", "Mbit", "", "5Mbyte", "1e9bit", "5Mbit/h", "٥Mbit"]
)
def test_malformed_and_ambiguous_rates_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="is not a rate") as refused:
        parse_rate(text)
    assert "Mbit for megabits" in refused.value.fix


@pytest.mark.parametrize("text", ["0Mbit", "1kbit", "7.9kB"])
def test_a_cap_below_the_stall_limit_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="less than the 8000"):
        parse_rate(text)


@given(st.none() | st.integers(1, 10**10))
def test_chunks_are_small_and_never_empty(rate: int | None) -> None:
    assert 1 <= chunk_bytes(rate) <= MAX_CHUNK
