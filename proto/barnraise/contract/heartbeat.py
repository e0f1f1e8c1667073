"""How often volunteers tell that they are there, where, and for how long they are believed to be."""

from __future__ import annotations

from barnraise.core.ids import Millis, PublicKey

SHORTEST, LONGEST = 5.0, 60.0
"""Seconds between two heartbeats."""
MISSED = 6
"""Heartbeats that fail to come before a volunteer is taken for gone."""
_A_SECOND = 20.0
"""Heartbeats that the swarm is to carry: each is stored by several nodes and read by many."""
_TOGETHER = 16
"""Volunteers that one entry of the DHT is to list at most."""


def heartbeat_seconds(volunteers: int) -> float:
    """Seconds between two heartbeats of one volunteer among so many."""
    return min(max(SHORTEST, volunteers / _A_SECOND), LONGEST)


def is_there(at: Millis, beat: float, now: Millis) -> bool:
    """Whether a heartbeat told at `at`, the next one due in `beat` seconds, still counts.

    One from the future is nobody's.
    """
    return abs(now - at) <= MISSED * beat * 1000


def parts_for(volunteers: int) -> int:
    """Entries of the DHT that list so many volunteers: a power of two, so that it seldom changes."""
    return 1 << max(0, -(-volunteers // _TOGETHER) - 1).bit_length()


def part_of(owner: PublicKey, parts: int) -> int:
    """In which of so many entries a volunteer is listed."""
    return int(owner[:8], 16) % parts
