"""What a node knows of the run's records, and to which nodes it forwards a new one. Pure.

The DHT keeps records for nodes that join later. It does not suit learning of new ones: each poll costs the
whole entry, from every node that keeps it, and a thousand volunteers that poll four times a second would
ask these few for megabytes a second. So a node that receives a head or a commit for the first time forwards
it to a few others (an epidemic: Demers et al. 1987, "Epidemic algorithms for replicated database
maintenance"), heartbeats go to the coordinator, and polls are so rare that no node has to answer more than
`MAX_ANSWERS_PER_SECOND` records for them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice

from barnraise.contract.heartbeat import heartbeat_seconds, is_early, is_live
from barnraise.contract.records import Commit, Head, Presence, Record
from barnraise.contract.rounds import seconds_between
from barnraise.core.ids import Millis, PublicKey, Round
from barnraise.core.signed import Signed
from barnraise.network.key_access import nobody
from barnraise.network.timing import TIMING

FAN_OUT = 5
"""Volunteers to which a node forwards a new record. Of those in a swarm, e^-5 or 0.7 % receive it from
none."""
WORKING_FAN_OUT = 2
"""Volunteers that contribute, to which it is forwarded too."""
MAX_ANSWERS_PER_SECOND = 32
"""Records that a node sends at most for other nodes' polls of one DHT entry: some 25 kB."""
VERSIONS = 4
"""Commits of one volunteer to one round that are forwarded: it may have to repeat its commit, but not
often."""
MAX_COMMITS = 2048
"""Commits to one round that are kept, of all volunteers together: twice as many as a round can fold, and
15 MB where all are as large as one may be."""
MAX_VOLUNTEERS = 4096
"""Volunteers that a volunteer remembers: a sample to forward to, where there are more."""
MAX_COUNTED = 16_384
"""Volunteers that the coordinator remembers: it counts them all. About 40 MB."""
UNPROVED_SECONDS = 60.0
"""Age of the newest proved head from which on another one is taken: others may be the closers since."""
ROUNDS_KEPT = 2
"""Rounds whose commits are kept: the open one's, and the previous one's for volunteers that are behind."""


class Novelty(Enum):
    """What a record is to the node that receives it."""

    NEW = "new"
    DUPLICATE = "duplicate"
    STALE = "stale"
    """Older than what is known, of a round that is not open, or from the future."""


@dataclass
class RecordCache:
    """The records that a node received, by gossip or from the DHT. Every one was checked before."""

    signed_head: Signed[Head] | None = None
    """The newest."""
    limit: int = MAX_VOLUNTEERS
    """Volunteers that are remembered."""
    trusts: Callable[[PublicKey], bool] = nobody
    """Whether a volunteer is trusted. It takes the place of one that is not, and no other key does."""
    _is_proved: bool = False
    """Whether the newest head is."""
    _present: dict[PublicKey, Presence] = field(default_factory=dict)
    _commits: dict[Round, dict[PublicKey, list[Signed[Commit]]]] = field(default_factory=dict)
    """By round and owner, the newest last."""

    @classmethod
    def of_node(cls, *, counts: bool, trusts: Callable[[PublicKey], bool] = nobody) -> RecordCache:
        """counts: whether the node keeps the heartbeats of all volunteers. trusts: as the field."""
        return cls(limit=MAX_COUNTED if counts else MAX_VOLUNTEERS, trusts=trusts)

    def open_round(self) -> Round | None:
        """By the newest head. None before there is one."""
        return None if self.head is None else Round(self.head.round)

    def receive(self, signed: Signed[Record], now: Millis, *, is_proved: bool = True) -> Novelty:
        """Keep a record where it is new. now: the run's clock. is_proved: of a head (`head_proof`)."""
        match signed.value:
            case Head() as head:
                return self._receive_head(Signed(head, signed.signer, signed.wire), now, is_proved)
            case Presence() as presence:
                return self._receive_presence(presence, now)
            case Commit() as commit:
                return self._receive_commit(Signed(commit, signed.signer, signed.wire))

    @property
    def head(self) -> Head | None:
        """The newest head, without its signature."""
        return None if self.signed_head is None else self.signed_head.value

    @property
    def volunteers(self) -> int:
        """How many there are, by the newest head."""
        return 0 if self.head is None else self.head.volunteers

    @property
    def expected_commits(self) -> int:
        """About how many commits a round has."""
        return 0 if self.head is None else -(-self.head.volunteers // self.head.turns)

    def present(self, now: Millis) -> list[Presence]:
        """The heartbeats that have not expired, by key."""
        return sorted(self.live(now), key=lambda presence: presence.owner)

    def live(self, now: Millis) -> Iterator[Presence]:
        """The heartbeats that have not expired, in any order. Nothing is computed until it is iterated."""
        beat = heartbeat_seconds(self.volunteers)
        return (p for p in self._present.values() if is_live(Millis(p.at), beat, now))

    @property
    def contributing(self) -> set[PublicKey]:
        """Volunteers whose commits were received lately."""
        return {owner for owners in self._commits.values() for owner in owners}

    def commits(self, round: Round) -> list[Signed[Commit]]:
        """The newest commit of each volunteer to a round, by key."""
        return [versions[-1] for _, versions in sorted(self._commits.get(round, {}).items())]

    def _receive_head(self, signed: Signed[Head], now: Millis, is_proved: bool) -> Novelty:
        """The one of highest order is the newest. Where one of two is proved, and recent, it is that one."""
        head, known = signed.value, self.head
        if known is not None:
            proved = (head if is_proved else known) if is_proved != self._is_proved else None
            if proved is None or seconds_between(Millis(proved.at), now) >= UNPROVED_SECONDS:
                if head.order <= known.order:
                    return Novelty.DUPLICATE if head.order == known.order else Novelty.STALE
            elif proved is known:
                return Novelty.STALE
        self.signed_head, self._is_proved = signed, is_proved
        for round in [round for round in self._commits if round <= head.round - ROUNDS_KEPT]:
            del self._commits[round]
        return Novelty.NEW

    def _receive_presence(self, presence: Presence, now: Millis) -> Novelty:
        if is_early(Millis(presence.at), heartbeat_seconds(self.volunteers), now):
            return Novelty.STALE
        owner = PublicKey(presence.owner)
        known = self._present.get(owner)
        if known is not None and presence.at <= known.at:
            return Novelty.DUPLICATE if presence.at == known.at else Novelty.STALE
        self._forget_silent(now)
        if known is None and not self._has_place(owner):
            return Novelty.STALE
        self._present.pop(owner, None)
        self._present[owner] = presence
        return Novelty.NEW

    def _forget_silent(self, now: Millis) -> None:
        """Drop at most two of the volunteers without news for longest: those that were silent for twice as
        long as their heartbeat counts, and, where there is no further place, for as long.
        """
        beats = heartbeat_seconds(self.volunteers) * (2 if len(self._present) < self.limit else 1)
        for owner in [*islice(self._present, 2)]:
            if is_live(Millis(self._present[owner].at), beats, now):
                return
            del self._present[owner]

    def _has_place(self, newcomer: PublicKey) -> bool:
        """Whether one more volunteer is remembered: who is present keeps its place, unless the newcomer alone
        of the two is trusted.
        """
        if len(self._present) < self.limit:
            return True
        other = self._untrusted(self._present) if self.trusts(newcomer) else None
        if other is None:
            return False
        del self._present[other]
        return True

    def _untrusted(self, owners: Iterable[PublicKey]) -> PublicKey | None:
        return next((owner for owner in owners if not self.trusts(owner)), None)

    def _receive_commit(self, signed: Signed[Commit]) -> Novelty:
        round, open_round = Round(signed.value.round), 0 if self.head is None else self.head.round
        # A close travels as fast as the first commit after it, so the next round's commit may arrive first.
        if not open_round - ROUNDS_KEPT < round <= open_round + 1:
            return Novelty.STALE
        owners = self._commits.setdefault(round, {})
        versions = owners.get(signed.signer, [])
        for known in versions:
            if known.wire == signed.wire:  # re-announced: now newest
                versions.remove(known)
                versions.append(known)
                return Novelty.DUPLICATE
        if len(versions) == VERSIONS or not self._has_room(owners, signed.signer):
            return Novelty.STALE
        owners.setdefault(signed.signer, versions).append(signed)
        return Novelty.NEW

    def _has_room(self, owners: dict[PublicKey, list[Signed[Commit]]], signer: PublicKey) -> bool:
        """Whether a round's commits have room for one more. The older ones of owners with several make room
        for an owner that has none, and those of an owner that is not trusted for a trusted one's.
        """
        if sum(map(len, owners.values())) < MAX_COMMITS:
            return True
        several = (owner for owner, own in owners.items() if len(own) > 1 and not self.trusts(owner))
        crowding = next(several, None) if signer not in owners else None
        if crowding is not None:
            del owners[crowding][0]
            return True
        other = self._untrusted(owners) if self.trusts(signer) else None
        if other is None:
            return False
        del owners[other]
        return True


def forward_targets(
    record: Record,
    novelty: Novelty,
    *,
    own: PublicKey,
    counting: Collection[PublicKey],
    present: Iterable[Presence],
    draw: Callable[[list[PublicKey], int], list[PublicKey]],
    signer: PublicKey,
    contributing: Collection[PublicKey] = (),
    trusts: Callable[[PublicKey], bool] = nobody,
) -> list[PublicKey]:
    """The nodes to which `own` sends a record that it received or made.

    The coordinator and the closers receive heartbeats and commits from their owners, and each other's heads,
    each time they are announced. Heads and commits are forwarded, once, to some of the known volunteers, and
    to some that contribute: where most keys only send heartbeats, few of the others forward anything. In an
    open run any number of keys may announce commits, so the owner, trusted keys and those that count forward
    to trusted ones of these. Others do not: a whole swarm would send each record to its few trusted keys.

    novelty: what the record was to this node. counting: the coordinator and the closers. draw: picks a number
    of list items at random. signer: of the record. contributing: owners of commits that were received.
    """
    owner = signer if isinstance(record, Head) else PublicKey(record.owner)
    targets = sorted(set(counting) - {own}) if own == owner else []
    if novelty is Novelty.NEW and not isinstance(record, Presence):
        others = [key for p in present if (key := PublicKey(p.owner)) not in (own, owner)]
        drawn = draw(others, min(FAN_OUT, len(others)))
        working = [key for key in others if key in contributing and key not in drawn]
        if own in (owner, *counting) or trusts(own):
            working = [*filter(trusts, working)] or working
        targets += [*drawn, *draw(working, min(WORKING_FAN_OUT, len(working)))]
    return targets


def poll_interval(readers: int, records: int, shortest: float = TIMING.min_poll) -> float:
    """Seconds between two polls of one DHT entry by one node.

    readers: nodes that poll the entry. records: how many it has. One node that keeps the entry may have to
    answer all of them, and sends readers · records within the interval.
    """
    return max(shortest, readers * records / MAX_ANSWERS_PER_SECOND)
