"""How holders of blobs behaved toward this node: whom to ask first, whom last, and whom not at all.

A node's own memory, told to nobody: what one peer says of another proves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum

from barnraise.core.ids import PublicKey

MAX_HOLDERS = 1024
"""Holders remembered; the one that was longest silent is forgotten first."""
NEWEST_WEIGHT = 0.3
"""Weight of the newest piece in a holder's measured rate."""
SHORTEST_SECONDS = 1e-3
"""A piece that took less says nothing exact about the rate."""


class FaultKind(Enum):
    """What a holder did. The value completes a sentence."""

    BAD_HASH = "served bytes of a wrong hash"
    BROKEN_PROMISE = "did not give what it had offered"
    STALLED = "stopped in the middle of an answer"
    DISCONNECTED = "broke the connection or cannot be reached"


FAULT_SECONDS = {
    FaultKind.BAD_HASH: 600.0,
    FaultKind.BROKEN_PROMISE: 600.0,
    FaultKind.STALLED: 60.0,
    FaultKind.DISCONNECTED: 15.0,
}
"""How long each is held against a holder. Bad luck is forgotten sooner than bad faith."""


class Trust(IntEnum):
    GOOD = 0
    LAST_RESORT = 1
    """Asked only for what nobody else has."""
    NONE = 2
    """Not asked."""


_TRUST = {
    FaultKind.BAD_HASH: Trust.NONE,
    FaultKind.BROKEN_PROMISE: Trust.NONE,
    FaultKind.STALLED: Trust.LAST_RESORT,
    FaultKind.DISCONNECTED: Trust.LAST_RESORT,
}


@dataclass(frozen=True)
class HolderFault:
    holder: PublicKey
    reason: FaultKind


@dataclass
class _Memory:
    until: dict[FaultKind, float] = field(default_factory=dict)
    rate: float | None = None


@dataclass
class Reputation:
    """`now` is in seconds on any clock that never goes back."""

    _memories: dict[PublicKey, _Memory] = field(default_factory=dict)

    def record(self, fault: HolderFault, now: float) -> bool:
        """Hold a fault against its holder. True when it is trusted less than before: worth a log line."""
        before = self.trust(fault.holder, now)
        self._memory(fault.holder).until[fault.reason] = now + FAULT_SECONDS[fault.reason]
        return self.trust(fault.holder, now) > before

    def trust(self, holder: PublicKey, now: float) -> Trust:
        memory = self._memories.get(holder, _Memory())
        return max(
            (_TRUST[reason] for reason, until in memory.until.items() if now < until), default=Trust.GOOD
        )

    def record_transfer(self, holder: PublicKey, count: int, seconds: float) -> None:
        """`count` bytes of it took so long."""
        memory, rate = self._memory(holder), count / max(seconds, SHORTEST_SECONDS)
        memory.rate = (
            rate if memory.rate is None else (1 - NEWEST_WEIGHT) * memory.rate + NEWEST_WEIGHT * rate
        )

    def rate(self, holder: PublicKey) -> float | None:
        """Bytes a second that it gave lately; None before its first piece."""
        return self._memories.get(holder, _Memory()).rate

    def _memory(self, holder: PublicKey) -> _Memory:
        memory = self._memories.pop(holder, None) or _Memory()
        self._memories[holder] = memory  # now the newest
        if len(self._memories) > MAX_HOLDERS:
            del self._memories[next(iter(self._memories))]
        return memory
