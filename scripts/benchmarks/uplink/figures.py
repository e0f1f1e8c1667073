"""What `scripts/bench uplink` reckons from what it saw: standstill, and distribution against its bound.

Times are seconds on one clock of the measuring process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from scripts.benchmarks.round import Line, trains


@dataclass
class Parcel:
    """One contribution on its way: an owner's blob, and when it was whole where."""

    owner: str
    size: int
    born: float
    arrived: dict[str, float] = field(default_factory=dict)
    """By receiver."""


def of_rounds(lines: Sequence[Line], first: int, until: int) -> list[Line]:
    """From the first line of round `first` to the first of round `until`, that one included."""
    begin = next(place for place, line in enumerate(lines) if line.round >= first)
    end = next(place for place, line in enumerate(lines) if line.round >= until)
    return list(lines[begin : end + 1])


def standstill(lines: Sequence[Line]) -> float:
    """The share of the time from the first line to the last in which the volunteer did not train."""
    idle = sum(b.at - a.at for a, b in pairwise(lines) if not trains(a))
    return idle / (lines[-1].at - lines[0].at)


def took(parcels: Sequence[Parcel]) -> float:
    """Seconds from the first parcel that was ready until the last receiver had them all."""
    return max(max(parcel.arrived.values()) for parcel in parcels) - min(p.born for p in parcels)


def bound(parcels: Sequence[Parcel], rate: float, nodes: int) -> float:
    """The least that `took` can be where each of `nodes` sends and receives `rate` bytes a second.

    The largest of three: each owner sends its parcel once; all deliveries together share all uplinks;
    each receiver takes in what it gets. Whoever holds something may serve it.
    """
    first = min(parcel.born for parcel in parcels)
    receivers = {name for parcel in parcels for name in parcel.arrived}
    owner = max(parcel.born - first + parcel.size / rate for parcel in parcels)
    together = sum(parcel.size * len(parcel.arrived) for parcel in parcels) / (rate * nodes)
    receiver = max(sum(p.size for p in parcels if name in p.arrived) / rate for name in receivers)
    return max(owner, together, receiver)


def crossing(points: Sequence[tuple[float, float]], loss: float) -> float:
    """When lines from point to point, (seconds, loss) each, come down to `loss`; the last one does."""
    for (earlier, above), (later, below) in pairwise(points):
        if below <= loss:
            return earlier + (later - earlier) * (above - loss) / (above - below)
    raise ValueError(f"no point is at {loss} or below")
