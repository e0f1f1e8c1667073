"""Word of mouth: what a node knows of the run's records, and whom it tells what is new to it. Pure.

The DHT keeps records for those who come later. It is no way to hear of news: whatever is new, a look costs
the whole entry, of every node that keeps it, and a thousand volunteers who look four times a second would
ask these few for megabytes a second. So whoever hears a head or a commit for the first time tells it
to a few others (an epidemic: Demers et al. 1987, "Epidemic algorithms for replicated database
maintenance"), heartbeats go to the coordinator, and looks are so rare that no node has to answer more than
`MAX_ANSWERS_PER_SECOND` records for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from barnraise.contract.heartbeat import is_live
from barnraise.contract.records import Commit, Head, Presence, Record
from barnraise.core.ids import Millis, PublicKey, Round
from barnraise.core.signed import Signed

FAN_OUT = 5
"""Volunteers whom one tells what is new to it. Of those in a swarm, e^-5 or 0.7 % are not told by anybody."""
MAX_ANSWERS_PER_SECOND = 32
"""Records that a node sends at most for the looks of others at one entry of the DHT: some 25 kB."""
MIN_POLL_SECONDS = 5.0
"""Seconds between two looks at an entry at least: news come by themselves, if not to everybody."""
VERSIONS = 4
"""Commits of one volunteer to one round that are passed on: it may have to make one anew, but not often."""
MAX_VOLUNTEERS = 4096
"""Volunteers that are remembered."""
ROUNDS_KEPT = 2
"""Rounds whose commits are remembered: the open one's, and the one's before it for who is behind."""


class Novelty(Enum):
    """What a record is to who hears it."""

    NEW = "new"
    DUPLICATE = "known"
    STALE = "late"
    """It was true once, or is not yet."""


@dataclass
class RecordCache:
    """What a node heard, by word of mouth or from the DHT. Every record in here was checked."""

    head: Head | None = None
    _present: dict[PublicKey, Presence] = field(default_factory=dict)
    _commits: dict[Round, dict[PublicKey, list[Signed[Commit]]]] = field(default_factory=dict)
    """By round and owner, the newest last."""

    def receive(self, signed: Signed[Record]) -> Novelty:
        """Take a record in, where it tells anything."""
        match signed.value:
            case Head() as head:
                return self._receive_head(head)
            case Presence() as presence:
                return self._receive_presence(presence)
            case Commit() as commit:
                return self._receive_commit(Signed(commit, signed.signer, signed.wire))

    def present(self, now: Millis) -> list[Presence]:
        """The heartbeats of those who are there, by their keys."""
        there = (p for _, p in sorted(self._present.items()))
        return [p for p in there if is_live(Millis(p.at), p.beat, now)]

    def commits(self, round: Round) -> list[Signed[Commit]]:
        """The newest commit of each volunteer to a round, by their keys."""
        return [versions[-1] for _, versions in sorted(self._commits.get(round, {}).items())]

    def _receive_head(self, head: Head) -> Novelty:
        if self.head is not None and head.at <= self.head.at:
            return Novelty.DUPLICATE if head.at == self.head.at else Novelty.STALE
        self.head = head
        for round in [round for round in self._commits if round <= head.round - ROUNDS_KEPT]:
            del self._commits[round]
        return Novelty.NEW

    def _receive_presence(self, presence: Presence) -> Novelty:
        owner = PublicKey(presence.owner)
        known = self._present.get(owner)
        if known is not None and presence.at <= known.at:
            return Novelty.DUPLICATE if presence.at == known.at else Novelty.STALE
        self._present.pop(owner, None)
        self._present[owner] = presence
        if len(self._present) > MAX_VOLUNTEERS:
            del self._present[next(iter(self._present))]  # whom we heard of longest ago
        return Novelty.NEW

    def _receive_commit(self, signed: Signed[Commit]) -> Novelty:
        round, open_round = Round(signed.value.round), 0 if self.head is None else self.head.round
        # News of a close travels as fast as the first commit after it, so the next round's may come first.
        if not open_round - ROUNDS_KEPT < round <= open_round + 1:
            return Novelty.STALE
        versions = self._commits.setdefault(round, {}).setdefault(signed.signer, [])
        for known in versions:
            if known.wire == signed.wire:  # told again, so it is still its owner's word
                versions.remove(known)
                versions.append(known)
                return Novelty.DUPLICATE
        if len(versions) == VERSIONS:
            return Novelty.STALE
        versions.append(signed)
        return Novelty.NEW


def forward_targets(
    record: Record,
    novelty: Novelty,
    *,
    own: PublicKey,
    authority: PublicKey,
    present: Sequence[Presence],
    draw: Callable[[list[PublicKey], int], list[PublicKey]],
) -> list[PublicKey]:
    """Whom `own` tells a record that it heard or made.

    The coordinator hears heartbeats and commits from their owners, as often as they make them. Heads and
    commits go on, once, to some volunteers of those whom we know.

    news: what it was to us. draw: so many of a list, at random.
    """
    told: list[PublicKey] = []
    owner = authority if isinstance(record, Head) else PublicKey(record.owner)
    if own == owner != authority:
        told.append(authority)
    if novelty is Novelty.NEW and not isinstance(record, Presence):
        others = [key for p in present if (key := PublicKey(p.owner)) not in (own, owner)]
        told += draw(others, min(FAN_OUT, len(others)))
    return told


def poll_interval(readers: int, records: int) -> float:
    """Seconds between two looks of one node at an entry of the DHT.

    readers: nodes that look at it. records: how many it has. One node that keeps the entry may have to
    answer all of them, and sends readers · records in so many seconds.
    """
    return max(MIN_POLL_SECONDS, readers * records / MAX_ANSWERS_PER_SECOND)
