"""How long to wait before another attempt: pure."""

from __future__ import annotations

import hashlib


def growing_seconds(attempt: int, *, first: float, longest: float) -> float:
    """The pause after a failed attempt, counted from 0: twice as long each time, and at most `longest`."""
    return min(longest, first * 2.0 ** min(attempt, 60))


def backoff_seconds(seed: str, attempt: int, *, first: float, longest: float) -> float:
    """As `growing_seconds`, or less: between half of it and all.

    seed: differs between volunteers, which spreads those that lost one coordinator over the second half of
    each pause.
    """
    whole = growing_seconds(attempt, first=first, longest=longest)
    digest = hashlib.sha256(f"{seed}/{attempt}".encode()).digest()
    return whole * (0.5 + 0.5 * int.from_bytes(digest[:8], "big") / 2**64)
