"""A model of the traffic of a swarm's records, from the programs' own decisions.

`scripts/bench records` measures the same traffic with as many real nodes as one machine holds, which shows
how accurate the model is.
"""

from __future__ import annotations

from dataclasses import dataclass

from barnraise.contract.heartbeat import heartbeat_seconds, parts_for
from barnraise.network.gossip_policy import FAN_OUT, poll_interval
from barnraise.network.record_dht import NEIGHBOURS
from coordinator.timing import TIMING

COPIES = 5
"""Nodes that hivemind stores a record on."""
NAME_BYTES = 70
"""One node's name in the answer to a search: its address and its key."""
HEADS_A_CLOSE = 3
"""In addition to one every `Timing.head`: closed, folded, checkpoint written."""


@dataclass(frozen=True)
class Sizes:
    """Bytes of one record of each kind."""

    head: int
    presence: int
    commit: int


@dataclass(frozen=True)
class Costs:
    """Traffic of the records."""

    sent: float
    """Bytes that a node sends in a round, mean over all nodes."""
    keeper: float
    """Bytes per second that a node sends at most: one that holds an entry alone, or is always asked first."""


def record_costs(
    volunteers: int, contributions: float, seconds: float, exchange: float, sizes: Sizes
) -> Costs:
    """The costs of rounds of `seconds`, in which commits are collected for `exchange` seconds."""
    beat, parts = heartbeat_seconds(volunteers), parts_for(volunteers)
    together, expected = -(-volunteers // parts), round(contributions)
    share = contributions / volunteers  # of the rounds that one volunteer contributes to
    gossiped = FAN_OUT * ((seconds / TIMING.head + HEADS_A_CLOSE) * sizes.head + contributions * sizes.commit)
    beats, repeats = seconds / beat, share * exchange / beat
    owners = beats * _stored(sizes.presence) + repeats * _stored(sizes.commit)
    looks = (
        seconds / poll_interval(volunteers, 1) * (COPIES * sizes.head + _search())
        + seconds / max(beat, poll_interval(together, together)) * (together * sizes.presence + _search())
        + exchange / poll_interval(volunteers, expected) * (expected * sizes.commit + _search())
    )
    keeper = max(
        volunteers * sizes.head / poll_interval(volunteers, 1),
        together * together * sizes.presence / max(beat, poll_interval(together, together)),
        volunteers * expected * sizes.commit / poll_interval(volunteers, expected),
    )
    return Costs(gossiped + owners + looks, keeper)


def _stored(size: int) -> float:
    """Bytes for sending a record to the coordinator and for its copies in the DHT."""
    return size + COPIES * size + _search()


def _search() -> float:
    return NEIGHBOURS * NEIGHBOURS * NAME_BYTES
