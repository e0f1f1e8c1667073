"""What a swarm's records cost each node, reckoned from the decisions that the programs take.

`scripts/bench records` measures the same with real nodes, as many as one machine holds; that says how near
the reckoning comes.
"""

from __future__ import annotations

from dataclasses import dataclass

from barnraise.contract.heartbeat import heartbeat_seconds, parts_for
from barnraise.network.gossip_policy import FAN_OUT, poll_interval
from barnraise.network.swarm import NEIGHBOURS
from coordinator.timing import TIMING

COPIES = 5
"""Nodes that hivemind stores a record on."""
NAME_BYTES = 70
"""One node's name in an answer to a search: its place and its key."""
HEADS_A_CLOSE = 3
"""Besides those every `Timing.head`: closed, folded, checkpoint written."""


@dataclass(frozen=True)
class Sizes:
    """Bytes of one record of each kind."""

    head: int
    presence: int
    commit: int


@dataclass(frozen=True)
class Costs:
    sent: float
    """Bytes that a node sends in a round, mean over all of them."""
    keeper: float
    """Bytes a second that the node sends at most that keeps an entry alone, or is asked first."""


def record_costs(
    volunteers: int, contributions: float, seconds: float, exchange: float, sizes: Sizes
) -> Costs:
    """Of rounds of `seconds`, in which a commit is open for `exchange` seconds."""
    beat, parts = heartbeat_seconds(volunteers), parts_for(volunteers)
    together, expected = -(-volunteers // parts), round(contributions)
    share = contributions / volunteers  # of the rounds, that one contributes to
    said = FAN_OUT * ((seconds / TIMING.head + HEADS_A_CLOSE) * sizes.head + contributions * sizes.commit)
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
    return Costs(said + owners + looks, keeper)


def _stored(size: int) -> float:
    """Bytes for telling the coordinator, and for the copies in the DHT."""
    return size + COPIES * size + _search()


def _search() -> float:
    return NEIGHBOURS * NEIGHBOURS * NAME_BYTES
