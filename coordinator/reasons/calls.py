"""Why a call of the gRPC service is not answered now."""

from __future__ import annotations

from dataclasses import dataclass

from barnraise.core.reason import Reason


@dataclass(frozen=True)
class TooManyOfAddress(Reason):
    """The address called too often."""

    wait: float
    """Seconds until it may call again."""


@dataclass(frozen=True)
class TooManyOfKey(Reason):
    """The key called too often."""

    wait: float


@dataclass(frozen=True)
class TooManyNewKeys(Reason):
    """Too many keys that were not admitted before called from the address."""

    wait: float


TooMany = TooManyOfAddress | TooManyOfKey | TooManyNewKeys
