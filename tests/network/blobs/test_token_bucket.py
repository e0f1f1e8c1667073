"""Caps: no more passes than was allowed, and rates are read as people mean them."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnraise.core.errors import UserError
from barnraise.network.blobs.rate_limiter import RateLimiter
from barnraise.network.blobs.token_bucket import (
    BURST_SECONDS,
    MAX_CHUNK,
    TokenBucket,
    chunk_bytes,
    parse_rate,
)
from tests.support import virtual_time


@given(
    rate=st.integers(8_000, 10**8),
    takes=st.lists(st.tuples(st.floats(0, 5), st.integers(1, MAX_CHUNK)), min_size=1, max_size=40),
)
def test_never_more_than_the_rate_and_a_burst(rate: int, takes: list[tuple[float, int]]) -> None:
    """Whoever waits as told: in any stretch of time, rate x time passes, a burst and the chunk in hand."""
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
            assert total <= rate * (ended - began + BURST_SECONDS) + chunk + 1e-3 * rate


def test_a_bucket_that_is_always_asked_gives_its_whole_rate() -> None:
    bucket, now = TokenBucket(1000.0), 0.0
    for _ in range(100):
        now += bucket.take(100, now)
    assert now == pytest.approx((100 * 100 - 1000 * BURST_SECONDS) / 1000)


def test_streams_take_turns() -> None:
    """Two streams under one cap move the same, and together the cap."""

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
def test_rates_are_read(text: str, rate: int) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    "text", ["5", "5M", "5Mb", "5mb", "-5Mbit", "Mbit", "", "5Mbyte", "1e9bit", "5Mbit/h", "٥Mbit"]
)
def test_what_is_no_rate_or_may_mean_two_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="is no rate") as refused:
        parse_rate(text)
    assert "Mbit for megabits" in refused.value.fix


@pytest.mark.parametrize("text", ["0Mbit", "1kbit", "7.9kB"])
def test_a_cap_that_no_stream_survives_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="less than the 8000"):
        parse_rate(text)


@given(st.none() | st.integers(1, 10**10))
def test_chunks_are_small_and_never_nothing(rate: int | None) -> None:
    assert 1 <= chunk_bytes(rate) <= MAX_CHUNK
