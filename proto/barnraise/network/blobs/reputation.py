"""How holders of blobs behaved toward this node: which to ask first, last, or not at all. Pure.

Local memory that is never sent: what one peer says about another proves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum

from barnraise.core.ids import PublicKey
from barnraise.network.timing import TIMING, Timing

MAX_HOLDERS = 1024
"""Holders that are remembered; the one without news for longest is forgotten first."""
NEWEST_WEIGHT = 0.3
"""Weight of the newest piece in a holder's measured rate."""
_SHORTEST = 1e-3
"""Seconds; shorter times count as this long, since they are not exact."""


class FaultKind(Enum):
    """What a holder did wrong."""

    BAD_HASH = "bad hash"
    """It served bytes of another hash."""
    BROKEN_PROMISE = "broken promise"
    """It did not serve what it had announced, or its answer broke the protocol."""
    FALSE_COMMIT = "false commit"
    """It signed a piece list, or a size, that is not its blob's. No holder is at fault."""
    STALLED = "stalled"
    """It stopped in the middle of an answer."""
    DISCONNECTED = "disconnected"
    """It closed the connection, or cannot be reached."""


class Trust(IntEnum):
    """How far a holder is trusted at present."""

    GOOD = 0
    LAST_RESORT = 1
    """Asked only for what no other holder has."""
    NONE = 2
    """Not asked."""


_TRUST = {
    FaultKind.BAD_HASH: Trust.NONE,
    FaultKind.BROKEN_PROMISE: Trust.NONE,
    FaultKind.FALSE_COMMIT: Trust.NONE,
    FaultKind.STALLED: Trust.LAST_RESORT,
    FaultKind.DISCONNECTED: Trust.LAST_RESORT,
}


def remembered_for(kind: FaultKind, timing: Timing = TIMING) -> float:
    """Seconds for which a fault lowers its holder's trust."""
    match kind:
        case FaultKind.BAD_HASH | FaultKind.BROKEN_PROMISE | FaultKind.FALSE_COMMIT:
            return timing.bad_faith
        case FaultKind.STALLED:
            return timing.stalled
        case FaultKind.DISCONNECTED:
            return timing.disconnected


@dataclass(frozen=True)
class HolderFault:
    """One fault of one holder."""

    holder: PublicKey
    kind: FaultKind


def smoothed_rate(before: float | None, newest: float, weight: float) -> float:
    """Exponentially weighted average of a rate. before: None before the first measurement. weight: of
    `newest`."""
    return newest if before is None else (1 - weight) * before + weight * newest


@dataclass
class _Memory:
    until: dict[FaultKind, float] = field(default_factory=dict)
    rate: float | None = None


@dataclass
class Reputation:
    """Faults and rates by holder. `now` is in seconds of any clock that never goes back."""

    timing: Timing = TIMING
    _memories: dict[PublicKey, _Memory] = field(default_factory=dict)

    def record(self, fault: HolderFault, now: float) -> bool:
        """Remember a fault. True when it lowers the holder's trust: worth a log line."""
        before = self.trust(fault.holder, now)
        self._memory(fault.holder).until[fault.kind] = now + remembered_for(fault.kind, self.timing)
        return self.trust(fault.holder, now) > before

    def trust(self, holder: PublicKey, now: float) -> Trust:
        """The lowest trust that a remembered fault leaves."""
        memory = self._memories.get(holder, _Memory())
        return max((_TRUST[kind] for kind, until in memory.until.items() if now < until), default=Trust.GOOD)

    def record_transfer(self, holder: PublicKey, count: int, seconds: float) -> None:
        """`count` bytes from a holder took `seconds`."""
        memory = self._memory(holder)
        memory.rate = smoothed_rate(memory.rate, count / max(seconds, _SHORTEST), NEWEST_WEIGHT)

    def rate(self, holder: PublicKey) -> float | None:
        """Bytes a second that it served lately; None before its first piece."""
        return self._memories.get(holder, _Memory()).rate

    def _memory(self, holder: PublicKey) -> _Memory:
        memory = self._memories.pop(holder, None) or _Memory()
        self._memories[holder] = memory  # now the newest
        if len(self._memories) > MAX_HOLDERS:
            del self._memories[next(iter(self._memories))]
        return memory
