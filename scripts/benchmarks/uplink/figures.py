"""The figures of `scripts/bench uplink`: idle time, and the time of distribution against its lower bound.

Times are in seconds, on one clock of the measuring process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from scripts.benchmarks.round import Line, trains


@dataclass
class Delivery:
    """One contribution: the blob of an owner, and when each receiver had all of it."""

    owner: str
    size: int
    born: float
    arrived: dict[str, float] = field(default_factory=dict)
    """The time of completion, by receiver."""


def of_rounds(lines: Sequence[Line], first: int, until: int) -> list[Line]:
    """From the first line of round `first` to the first line of round `until`, inclusive."""
    begin = next(place for place, line in enumerate(lines) if line.round >= first)
    end = next(place for place, line in enumerate(lines) if line.round >= until)
    return list(lines[begin : end + 1])


def idle_share(lines: Sequence[Line]) -> float:
    """The share of the time from the first line to the last in which the volunteer did not train."""
    idle = sum(b.at - a.at for a, b in pairwise(lines) if not trains(a))
    return idle / (lines[-1].at - lines[0].at)


def distribution_seconds(deliveries: Sequence[Delivery]) -> float:
    """Seconds from the first blob that was ready until the last receiver had all of them."""
    return max(max(delivery.arrived.values()) for delivery in deliveries) - min(p.born for p in deliveries)


def distribution_bound(deliveries: Sequence[Delivery], rate: float, nodes: int) -> float:
    """A lower bound of `distribution_seconds`, if each of `nodes` sends and receives `rate` bytes per second.

    The maximum of three: each owner sends its blob once; all deliveries share all uplinks; each receiver
    receives its blobs on one line. Every node that holds a piece may serve it.
    """
    first = min(delivery.born for delivery in deliveries)
    receivers = {name for delivery in deliveries for name in delivery.arrived}
    owner = max(delivery.born - first + delivery.size / rate for delivery in deliveries)
    together = sum(delivery.size * len(delivery.arrived) for delivery in deliveries) / (rate * nodes)
    receiver = max(sum(p.size for p in deliveries if name in p.arrived) / rate for name in receivers)
    return max(owner, together, receiver)


def crossing_time(points: Sequence[tuple[float, float]], loss: float) -> float:
    """The time at which linear interpolation of `points`, (seconds, loss), falls to `loss`."""
    for (earlier, above), (later, below) in pairwise(points):
        if below <= loss:
            return earlier + (later - earlier) * (above - loss) / (above - below)
    raise ValueError(f"no point is at {loss} or below")
