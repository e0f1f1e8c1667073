"""Which of several programs with one key takes part: pure.

A folder that was copied, or a virtual machine that was cloned, has a second program with the same key. The
two would overwrite each other's heartbeats and contributions. An instance number in claims and heartbeats
(`barnraise.runtime.instance`) distinguishes them; the one that was there first keeps the key:

| holder of the key                       | claim or heartbeat of another instance |
|-----------------------------------------|----------------------------------------|
| live: it has sent heartbeats            | refused                                |
| it left, or is silent (`Timing.silent`) | becomes the holder                     |
| unknown                                 | becomes the holder                     |

A restart has the same number, and so is not refused. After a start of the coordinator the instances of the
claims in its journal count as live until they had time for a heartbeat.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from barnraise.contract.heartbeat import MISSED, SHORTEST, heartbeat_seconds
from barnraise.contract.records import UNKNOWN_INSTANCE, JoinClaim, Presence
from barnraise.contract.rounds import seconds_between
from barnraise.core.ids import Millis, PublicKey
from coordinator.reasons.rounds import HasOtherInstance
from coordinator.timing import TIMING

FEW = 2**14
"""Holders that are kept although they fell silent."""


@dataclass(frozen=True)
class Holder:
    """The program that takes part with a key."""

    instance: str
    seen: Millis
    """Time of its newest claim or heartbeat."""


@dataclass
class Instances:
    """The holder of each key."""

    silent: float = TIMING.silent
    """As in `Timing`."""
    _beat: float = SHORTEST
    """Seconds between the heartbeats of one volunteer."""
    _holders: dict[PublicKey, Holder] = field(default_factory=dict)
    _enough: int = FEW
    """With more holders the silent ones are dropped: they count as unknown ones do."""

    @classmethod
    def restored(cls, claims: Mapping[PublicKey, JoinClaim], now: Millis, silent: float) -> Instances:
        """The holders at a start of the coordinator. claims: the newest of each key."""
        known = {key: claim for key, claim in claims.items() if claim.instance != UNKNOWN_INSTANCE}
        holders = {key: Holder(claim.instance, now) for key, claim in known.items()}
        return cls(silent, _holders=holders)

    def in_use(self, claim: JoinClaim, now: Millis) -> HasOtherInstance | None:
        """Why `claim` is refused; None where its program may take part."""
        holder = self._holders.get(PublicKey(claim.owner))
        if holder is None or holder.instance == claim.instance or not self._is_live(holder, now):
            return None
        return HasOtherInstance(max(0.0, seconds_between(holder.seen, now)))

    def admitted(self, claim: JoinClaim, now: Millis) -> None:
        """The program of `claim` was admitted."""
        self._hold(PublicKey(claim.owner), Holder(claim.instance, now), now)

    def __len__(self) -> int:
        return len(self._holders)

    def _is_live(self, holder: Holder, now: Millis) -> bool:
        """Whether the program, or a restart of it, is still to be expected."""
        return abs(now - holder.seen) <= 1000 * max(self.silent, MISSED * self._beat)

    def _hold(self, key: PublicKey, holder: Holder, now: Millis) -> None:
        self._holders[key] = holder
        if len(self._holders) > self._enough:
            self._holders = {key: each for key, each in self._holders.items() if self._is_live(each, now)}
            self._enough = max(FEW, 2 * len(self._holders))

    def heard(self, heartbeats: Collection[Presence], now: Millis) -> None:
        """Heartbeats that are live."""
        self._beat = heartbeat_seconds(len(heartbeats))
        for beat in heartbeats:
            owner = PublicKey(beat.owner)
            holder = self._holders.get(owner)
            if holder is not None and not self._is_news(holder, beat, now):
                continue
            if beat.doing == "leaving":
                self._holders.pop(owner, None)
            else:
                self._hold(owner, Holder(beat.instance, Millis(beat.at)), now)

    def _is_news(self, holder: Holder, beat: Presence, now: Millis) -> bool:
        if holder.instance == beat.instance:
            return holder.seen != beat.at or beat.doing == "leaving"
        return not self._is_live(holder, now)
