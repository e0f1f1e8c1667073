"""How many calls and connections of the gRPC service an address or a key may have. Pure: `now` is passed.

Many volunteers share one address behind a carrier's NAT, so an address is limited in its rate and in its
share of what is left, and never to a number of volunteers.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from barnraise.core.ids import PublicKey
from barnraise.core.places import SHARED
from barnraise.core.rates import Allowance, Rates
from coordinator.reasons.calls import TooManyNewKeys, TooManyOfAddress, TooManyOfKey

PER_ADDRESS = Allowance(burst=200, per_second=20)
PER_KEY = Allowance(burst=10, per_second=0.1)
PER_AUDITOR = Allowance(burst=10, per_second=1)
NEW_KEYS = Allowance(burst=100, per_second=0.5)
CONNECTIONS = Allowance(burst=200, per_second=20)
CONNECTIONS_OF_NEW, CONNECTIONS_OF_KNOWN = Allowance(500, 100), Allowance(2000, 200)


@dataclass(frozen=True)
class CallLimits:
    """Limits of one gRPC service."""

    connections: int = 1024
    """At the same time. A volunteer's lasts for one or two calls."""
    reserved_connections: int = 256
    """Of them, for addresses from which an admitted key called in the last day."""
    streams: int = 4
    """Calls at the same time on one connection."""
    first_bytes_seconds: float = 5.0
    """From a connection to its first byte: a client sends at once."""
    handshake_seconds: float = 10.0
    """For TLS: a few round trips."""
    new_connections: Allowance = CONNECTIONS
    """Connections that an address opens: each may cost a TLS handshake, some 2 ms of a core."""
    new_connections_of_new: Allowance = CONNECTIONS_OF_NEW
    """Of all addresses together from which no admitted key called in the last day."""
    new_connections_of_known: Allowance = CONNECTIONS_OF_KNOWN
    """Of all others together."""
    connection_seconds: float = 60.0
    """A connection lasts this long at most; a client calls again."""
    idle_seconds: float = 20.0
    """For a connection without a call."""
    stream_seconds: float = 10.0
    """For a call of the health and reflection services that streams."""
    message_bytes: int = 64 * 1024
    """Of a request: a claim has at most 4 KiB."""
    per_address: Allowance = PER_ADDRESS
    """Calls: 2,000 volunteers behind one address renew their admissions once in 24 hours each."""
    per_key: Allowance = PER_KEY
    """Claims, evaluations and reports of one key: a volunteer that is refused repeats after 2 s, then less
    often."""
    per_auditor: Allowance = PER_AUDITOR
    """Calls of one key that is vouched for: one a round that it audits, and one in 15 s while it waits."""
    new_keys: Allowance = NEW_KEYS
    """Claims of keys that were never admitted, by address."""


LIMITS = CallLimits()
"""What programs run with."""


@dataclass
class ConnectionRates:
    """How many connections were opened in the last minutes."""

    limits: CallLimits = LIMITS
    _addresses: Rates = field(init=False)
    _new: Rates = field(init=False)
    _known: Rates = field(init=False)

    def __post_init__(self) -> None:
        limits = self.limits
        self._addresses = Rates(limits.new_connections)
        self._new, self._known = Rates(limits.new_connections_of_new), Rates(limits.new_connections_of_known)

    def take(self, group: str, now: float, *, is_known: bool) -> bool:
        """Whether a client's address group may open one more. is_known: as of `Places.enter`."""
        if group != SHARED and self._addresses.take(group, now):
            return False
        together = self._known if is_known and group != SHARED else self._new
        return not together.take("", now)


@dataclass
class CallRates:
    """What was called in the last minutes."""

    limits: CallLimits = LIMITS
    _addresses: Rates = field(init=False)
    _keys: Rates = field(init=False)
    _auditors: Rates = field(init=False)
    _new: Rates = field(init=False)

    def __post_init__(self) -> None:
        limits = self.limits
        self._addresses, self._keys = Rates(limits.per_address), Rates(limits.per_key)
        self._auditors, self._new = Rates(limits.per_auditor), Rates(limits.new_keys)

    def call(self, group: str, now: float) -> TooManyOfAddress | None:
        """A call of any kind. group: of the client's address. None where it may be answered."""
        if group == SHARED or not (wait := self._addresses.take(group, now)):
            return None
        return TooManyOfAddress(wait)

    def signed(self, key: PublicKey, now: float) -> TooManyOfKey | None:
        """A call that `key` signed."""
        wait = self._keys.take(key, now)
        return TooManyOfKey(wait) if wait else None

    def of_auditor(self, key: PublicKey, now: float) -> TooManyOfKey | None:
        """A call for a round to audit, by a key that is vouched for."""
        wait = self._auditors.take(key, now)
        return TooManyOfKey(wait) if wait else None

    def claim_of_new_key(self, group: str, now: float) -> TooManyNewKeys | None:
        """A claim of a key that was not admitted before."""
        if group == SHARED or not (wait := self._new.take(group, now)):
            return None
        return TooManyNewKeys(wait)
