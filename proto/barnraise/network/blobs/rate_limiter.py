"""Rate limits of blob streams: a token bucket, what passes counted, and rates as people write them."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field

from barnraise.core.errors import UserError
from barnraise.network.streams import now
from barnraise.network.timing import TIMING, Timing

MIN_RATE = 8_000
"""Bytes a second. Below it, streams would be taken for stalled."""
MAX_CHUNK = 64 * 1024
MIN_CHUNK = 1024

_UNITS = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000}
_RATE = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)\s*([kKmMgG]?)([bB]it(?:/s|ps)?|bps|B(?:/s|ps)?)", re.ASCII)


@dataclass(frozen=True)
class Caps:
    """Bytes a second over all blob streams of this node; None for no limit."""

    up: int | None = None
    down: int | None = None


UNCAPPED = Caps()


@dataclass
class TokenBucket:
    """A token bucket that lends: tokens may go below zero, and the caller waits until they are paid back.

    Callers are served in the order of their calls.
    """

    rate: float
    """Bytes a second."""
    burst: float = TIMING.rate_burst
    """Capacity, as seconds at the full rate."""
    _tokens: float = field(init=False)
    _updated: float | None = None

    def __post_init__(self) -> None:
        self._tokens = self.rate * self.burst

    def take(self, count: int, now: float) -> float:
        """Seconds to wait before `count` bytes may pass. `now` is in seconds and never goes back."""
        earned = 0.0 if self._updated is None else (now - self._updated) * self.rate
        self._updated = now
        self._tokens = min(self.rate * self.burst, self._tokens + earned) - count
        return max(0.0, -self._tokens / self.rate)


def chunk_bytes(rate: float | None, seconds: float = TIMING.rate_chunk) -> int:
    """Bytes that a stream moves between two calls of `TokenBucket.take`. seconds: their time at `rate`."""
    if rate is None:
        return MAX_CHUNK
    return min(MAX_CHUNK, max(MIN_CHUNK, int(rate * seconds)))


@dataclass
class Traffic:
    """Bytes of blobs since the start."""

    up: int = 0
    down: int = 0


class RateLimiter:
    """One direction of all of a node's blob streams. Streams take turns, a chunk each."""

    def __init__(self, rate: int | None, timing: Timing = TIMING) -> None:
        """rate: bytes a second; None for no limit."""
        self._bucket = TokenBucket(rate, timing.rate_burst) if rate is not None else None
        self._timing, self._busy_until = timing, 0.0
        self.chunk = chunk_bytes(rate, timing.rate_chunk)
        """Bytes that a stream moves at a time."""

    @property
    def is_limited(self) -> bool:
        """Whether there is a limit."""
        return self._bucket is not None

    async def acquire(self, count: int) -> None:
        """Wait until `count` bytes may pass."""
        wait = 0.0 if self._bucket is None else self._bucket.take(count, now())
        self._busy_until = now() + wait + self._timing.background_idle
        if self._bucket is not None:
            await asyncio.sleep(wait)

    async def acquire_in_background(self, count: int) -> None:
        """As `acquire`, after streams that use that one: while they are busy, only enough to stay alive."""
        latest = now() + self._timing.background_wait
        while (pause := min(self._busy_until, latest) - now()) > 0:  # noqa: ASYNC110 (until others pause)
            await asyncio.sleep(pause)
        if self._bucket is not None:
            await asyncio.sleep(self._bucket.take(count, now()))


UNLIMITED = RateLimiter(None)
"""Lets all bytes pass at once."""


def parse_rate(text: str) -> int:
    """`5Mbit`, `600kbit` or `1.5MB` as bytes a second; bit and B are distinct, /s may follow.

    Raises UserError.
    """
    found = _RATE.fullmatch(text.strip())
    if found is None:
        number = re.match(r"\s*(\d+(?:\.\d+)?)", text)
        example = number.group(1) if number else "5"
        raise UserError(
            f"{text!r} is not a rate",
            fix=f"Write {example}Mbit for megabits a second, or {example}MB for megabytes.",
        )
    amount, prefix, unit = found.groups()
    bits = unit.lower().startswith("bit") or unit == "bps"
    rate = float(amount) * _UNITS[prefix.lower()] / (8 if bits else 1)
    if rate < MIN_RATE:
        raise UserError(
            f"{text!r} is {rate:.0f} bytes a second, less than the {MIN_RATE} that a stream needs to live",
            fix="Write 64kbit or more; leave the option out for no cap.",
        )
    return int(rate)
