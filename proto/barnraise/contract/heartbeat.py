"""Heartbeats: how often volunteers send them, under which DHT entry, and how long one counts as live.

Both follow from the number of volunteers, which the head says. A heartbeat states neither: its sender could
count as live for as long as it likes.
"""

from __future__ import annotations

from barnraise.core.ids import Millis, PublicKey

SHORTEST, LONGEST = 5.0, 60.0
"""Seconds between two heartbeats."""
MISSED = 6
"""Missed heartbeats after which a volunteer is no longer live."""
_PER_SECOND = 20.0
"""Heartbeats that the swarm carries in a second: several nodes store each of them, and many read it."""
_PER_ENTRY = 16
"""Volunteers that one DHT entry lists at most."""


def heartbeat_seconds(volunteers: int) -> float:
    """Seconds between two heartbeats of each of `volunteers`."""
    return min(max(SHORTEST, volunteers / _PER_SECOND), LONGEST)


def is_live(at: Millis, beat: float, now: Millis) -> bool:
    """Whether the heartbeat of time `at` still counts at `now`; the next one is due `beat` seconds after it.

    One from further in the future than it would count in the past does not.
    """
    return abs(now - at) <= MISSED * beat * 1000


def is_early(at: Millis, beat: float, now: Millis) -> bool:
    """Whether the heartbeat is from further in the future: kept, it would hide its owner's next ones."""
    return at - now > MISSED * beat * 1000


def next_time(last: Millis, beat: float, now: Millis) -> Millis:
    """Time of a volunteer's heartbeat after the one of time `last`: later, also where its clock is corrected.

    `now` where the run's clock went back so far that the last one is early.
    """
    return now if is_early(last, beat, now) else Millis(max(now, last + 1))


def parts_for(volunteers: int) -> int:
    """DHT entries that list `volunteers` heartbeats: a power of two, so that the number seldom changes."""
    return 1 << max(0, -(-volunteers // _PER_ENTRY) - 1).bit_length()


def part_of(owner: PublicKey, parts: int) -> int:
    """Index of the entry, of `parts`, that lists a volunteer."""
    return int(owner[:8], 16) % parts
