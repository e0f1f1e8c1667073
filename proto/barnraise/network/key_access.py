"""What a key may use of a node: the one place that streams, gossip, the DHT and connections ask. Pure.

Places are limited, and keys without an admission cost nothing, so they never take the place of a key that is
known to be admitted. In open runs admissions cost little too: keys on probation never take the place of a
trusted one.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

from barnraise.contract.keys_in_force import KeysInForce
from barnraise.core.ids import PublicKey
from barnraise.core.recent import Recent

MAX_KEYS = 16_384
"""Admitted keys that a node remembers: as many volunteers as a coordinator counts. 2 MB."""


class Access(IntEnum):
    """A higher one takes the place of a lower one."""

    BANNED = 0
    """Nothing is served to it, and nothing is taken from it."""
    STRANGER = 1
    """No admission of it was seen, such as of a program that looks up addresses, or is about to join."""
    ADMITTED = 2
    """A record of it with a valid admission was seen. It is on probation, or suspended."""
    TRUSTED = 3
    """It is admitted and trusted, as every key of a run by invitation is before a verdict; or the log or the
    spec names it as trusted."""
    RUN = 4
    """The run's own keys: the coordinator and the closers."""


def nobody(key: PublicKey) -> bool:
    """Where no key is banned, or none is trusted."""
    return False


class KeyAccess:
    """The access of each key, from the log and from the records that the node checked."""

    def __init__(self, keys: KeysInForce, banned: Callable[[PublicKey], bool] = nobody) -> None:
        """keys: they may change. banned: whether the log bans a key now."""
        self._keys, self._banned = keys, banned
        self._admitted = Recent[PublicKey](MAX_KEYS)

    def admit(self, key: PublicKey) -> None:
        """A record of the key with an admission was checked."""
        self._admitted.add(key)

    def of(self, key: PublicKey) -> Access:
        """What the key may use now."""
        if key in self._keys.counting or key in self._keys.signers:
            return Access.RUN
        if self._banned(key):
            return Access.BANNED
        if key in self._admitted:
            return Access.TRUSTED if self._keys.trusts(key) else Access.ADMITTED
        return Access.TRUSTED if self._keys.names_as_trusted(key) else Access.STRANGER
