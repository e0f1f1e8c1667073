"""Caps on what goes up and down: a token bucket, and rates as people write them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from barnraise.core.errors import UserError

MIN_RATE = 8_000
"""Bytes a second below which streams would be taken for stalled."""
BURST_SECONDS = 0.05
"""What may pass at once after a pause, in time at the full rate."""
MAX_CHUNK = 64 * 1024
MIN_CHUNK = 1024
CHUNK_SECONDS = 0.02
"""A capped stream moves chunks of so much time, so that it is smooth and streams take turns."""

_UNITS = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000}
_RATE = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)\s*([kKmMgG]?)([bB]it(?:/s|ps)?|bps|B(?:/s|ps)?)", re.ASCII)


@dataclass(frozen=True)
class Caps:
    """Bytes a second over all blob streams of this node; None is as fast as it goes."""

    up: int | None = None
    down: int | None = None


UNCAPPED = Caps()


@dataclass
class TokenBucket:
    """A token bucket that lends: whoever takes waits for as long as it is told, in the order of asking."""

    rate: float
    """Bytes a second."""
    _level: float = field(init=False)
    _at: float | None = None

    def __post_init__(self) -> None:
        self._level = self.rate * BURST_SECONDS

    def take(self, count: int, now: float) -> float:
        """Seconds to wait before `count` bytes may go. `now` never goes back."""
        earned = 0.0 if self._at is None else (now - self._at) * self.rate
        self._at = now
        self._level = min(self.rate * BURST_SECONDS, self._level + earned) - count
        return max(0.0, -self._level / self.rate)


def chunk_bytes(rate: float | None) -> int:
    """Bytes to move between two looks at the bucket."""
    if rate is None:
        return MAX_CHUNK
    return min(MAX_CHUNK, max(MIN_CHUNK, int(rate * CHUNK_SECONDS)))


def parse_rate(text: str) -> int:
    """`5Mbit`, `600kbit` or `1.5MB` as bytes a second; bit and B are told apart, /s may follow.

    Raises UserError.
    """
    found = _RATE.fullmatch(text.strip())
    if found is None:
        number = re.match(r"\s*(\d+(?:\.\d+)?)", text)
        example = number.group(1) if number else "5"
        raise UserError(
            f"{text!r} is no rate",
            fix=f"Write {example}Mbit for megabits a second, or {example}MB for megabytes.",
        )
    amount, prefix, unit = found.groups()
    rate = (
        float(amount) * _UNITS[prefix.lower()] / (8 if unit.lower().startswith("bit") or unit == "bps" else 1)
    )
    if rate < MIN_RATE:
        raise UserError(
            f"{text!r} is {rate:.0f} bytes a second, less than the {MIN_RATE} that a stream needs to live",
            fix="Write 64kbit or more; leave the option out for no cap.",
        )
    return int(rate)
