"""How often volunteers tell that they are there, and for how long they are believed to be."""

from __future__ import annotations

from barnraise.ids import Millis

SHORTEST, LONGEST = 5.0, 60.0
"""Seconds between two heartbeats."""
MISSED = 6
"""Heartbeats that fail to come before a volunteer is taken for gone."""
_A_SECOND = 20.0
"""Heartbeats that the swarm is to carry: each is stored by several nodes and read by many."""


def heartbeat_seconds(volunteers: int) -> float:
    """Seconds between two heartbeats of one volunteer among so many."""
    return min(max(SHORTEST, volunteers / _A_SECOND), LONGEST)


def is_there(at: Millis, beat: float, now: Millis) -> bool:
    """Whether a heartbeat told at `at`, the next one due in `beat` seconds, still counts.

    One from the future is nobody's.
    """
    return abs(now - at) <= MISSED * beat * 1000
