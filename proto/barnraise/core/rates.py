"""How often each of many keys or addresses may do something: token buckets, in bounded memory. Pure."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Allowance:
    """`burst` at once, and `per_second` in the long run."""

    burst: float
    per_second: float


@dataclass
class Rates:
    """The buckets of names. The one that was used longest ago is dropped first: its name begins afresh."""

    allowance: Allowance
    most: int = 8192
    """Names that are remembered."""
    _buckets: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)
    """What is left, and when that was."""

    def take(self, name: str, now: float) -> float:
        """Count one use. Returns 0, or the seconds until there may be one. now: seconds of any clock."""
        left = self._left(name, now)
        wait = max(0.0, 1.0 - left) / self.allowance.per_second
        self._buckets[name] = (left if wait else left - 1.0, now)
        self._buckets.move_to_end(name)
        if len(self._buckets) > self.most:
            self._buckets.popitem(last=False)
        return wait

    def _left(self, name: str, now: float) -> float:
        left, before = self._buckets.get(name, (self.allowance.burst, now))
        return min(self.allowance.burst, left + (now - before) * self.allowance.per_second)
