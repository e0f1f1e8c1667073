"""How often a key may do something with a node. Pure: times are arguments.

Each key has a token bucket, and the keys of one access may share one more: keys without an admission are
free, and in open runs admissions cost little, so a rate for each of them bounds nothing. Under a flood each
of them is served in proportion to what it asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from barnraise.core.ids import PublicKey
from barnraise.network.key_access import Access

MAX_BUCKETS = 4096
"""Keys whose rate is remembered. A bucket that is forgotten begins full, as that of a new key."""


@dataclass(frozen=True)
class Rate:
    """What one key may do."""

    per_second: float
    burst: float
    """At once, after a pause."""


class Verdict(Enum):
    """Whether a key is within its rate."""

    ALLOWED = "allowed"
    REFUSED = "refused"
    FLOODS = "floods"
    """It was refused as often as its burst, and went on."""


class _Bucket:
    def __init__(self, rate: Rate, now: float) -> None:
        self.rate, self._level, self._at = rate, rate.burst, now

    def take(self, amount: float, now: float) -> Verdict:
        """What is refused counts too, so that only a pause helps."""
        self._fill(now)
        self._level = max(self._level - amount, -self.rate.burst)
        if self._level >= 0:
            return Verdict.ALLOWED
        return Verdict.FLOODS if self._level <= -self.rate.burst else Verdict.REFUSED

    def share(self, amount: float, now: float) -> Verdict:
        """What is refused does not count: no pause of one key would help another."""
        self._fill(now)
        if self._level < amount:
            return Verdict.REFUSED
        self._level -= amount
        return Verdict.ALLOWED

    def _fill(self, now: float) -> None:
        full = self._level + self.rate.per_second * max(0.0, now - self._at)
        self._at, self._level = now, min(self.rate.burst, full)


class KeyRates:
    """The rates of all keys for one kind of act."""

    def __init__(self, each: Mapping[Access, Rate], together: Mapping[Access, Rate]) -> None:
        """each: of one key. together: of all keys with one access. Those that are missing have no limit."""
        self._each, self._together = each, together
        self._shared: dict[Access, _Bucket] = {}
        self._buckets: dict[PublicKey, _Bucket] = {}

    def take(self, key: PublicKey, access: Access, now: float, amount: float = 1.0) -> Verdict:
        """Count an act of a key. now: seconds on a clock that never goes back."""
        rate = self._each.get(access)
        if rate is None:
            return Verdict.ALLOWED
        verdict = self._bucket(key, rate, now).take(amount, now)
        if access not in self._together or verdict is not Verdict.ALLOWED:
            return verdict
        if access not in self._shared:
            self._shared[access] = _Bucket(self._together[access], now)
        return self._shared[access].share(amount, now)

    def _bucket(self, key: PublicKey, rate: Rate, now: float) -> _Bucket:
        bucket = self._buckets.pop(key, None)
        if bucket is None or bucket.rate != rate:  # a key is a stranger until its first record is read
            bucket = _Bucket(rate, now)
        self._buckets[key] = bucket
        if len(self._buckets) > MAX_BUCKETS:
            del self._buckets[next(iter(self._buckets))]
        return bucket
