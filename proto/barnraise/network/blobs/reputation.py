"""How holders of blobs behaved toward this node: whom to ask first, whom last, and whom not at all.

A node's own memory, told to nobody: what one peer says of another proves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum

from barnraise.core.ids import PublicKey

MAX_HOLDERS = 1024
"""Holders remembered; the one that was longest silent is forgotten first."""
NEWEST = 0.3
"""Weight of the newest piece in a holder's measured rate."""
SHORTEST_SECONDS = 1e-3
"""A piece that took less says nothing exact about the rate."""


class Reason(Enum):
    """What a holder did. The value completes a sentence."""

    JUNK = "served bytes of a wrong hash"
    LIED = "did not give what it had offered"
    STALLED = "stopped in the middle of an answer"
    GONE = "broke the connection or cannot be reached"


SECONDS = {Reason.JUNK: 600.0, Reason.LIED: 600.0, Reason.STALLED: 60.0, Reason.GONE: 15.0}
"""How long each is held against a holder. Bad luck is forgotten sooner than bad faith."""


class Trust(IntEnum):
    GOOD = 0
    LAST = 1
    """Asked only for what nobody else has."""
    NONE = 2
    """Not asked."""


_TRUST = {
    Reason.JUNK: Trust.NONE,
    Reason.LIED: Trust.NONE,
    Reason.STALLED: Trust.LAST,
    Reason.GONE: Trust.LAST,
}


@dataclass(frozen=True)
class Fault:
    holder: PublicKey
    reason: Reason


@dataclass
class _Memory:
    until: dict[Reason, float] = field(default_factory=dict)
    rate: float | None = None


@dataclass
class Standing:
    """`now` is in seconds on any clock that never goes back."""

    _memories: dict[PublicKey, _Memory] = field(default_factory=dict)

    def note(self, fault: Fault, now: float) -> bool:
        """Hold a fault against its holder. True when it is trusted less than before: worth a log line."""
        before = self.trust(fault.holder, now)
        self._memory(fault.holder).until[fault.reason] = now + SECONDS[fault.reason]
        return self.trust(fault.holder, now) > before

    def trust(self, holder: PublicKey, now: float) -> Trust:
        memory = self._memories.get(holder, _Memory())
        return max(
            (_TRUST[reason] for reason, until in memory.until.items() if now < until), default=Trust.GOOD
        )

    def measured(self, holder: PublicKey, count: int, seconds: float) -> None:
        """`count` bytes of it took so long."""
        memory, rate = self._memory(holder), count / max(seconds, SHORTEST_SECONDS)
        memory.rate = rate if memory.rate is None else (1 - NEWEST) * memory.rate + NEWEST * rate

    def rate(self, holder: PublicKey) -> float | None:
        """Bytes a second that it gave lately; None before its first piece."""
        return self._memories.get(holder, _Memory()).rate

    def _memory(self, holder: PublicKey) -> _Memory:
        memory = self._memories.pop(holder, None) or _Memory()
        self._memories[holder] = memory  # now the newest
        if len(self._memories) > MAX_HOLDERS:
            del self._memories[next(iter(self._memories))]
        return memory
