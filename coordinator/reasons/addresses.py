"""Why volunteers may not reach an address that a coordinator announces."""

from __future__ import annotations

from dataclasses import dataclass

from barnraise.contract.endpoints import Reach
from barnraise.core.reason import Reason


@dataclass(frozen=True)
class LimitedReach(Reason):
    """Not everyone can connect to a host."""

    host: str
    reach: Reach
    """Who can; never "everyone"."""


@dataclass(frozen=True)
class OtherFamily(Reason):
    """A host's address is of an IP version that the coordinator does not listen on."""

    host: str
    version: int
    listens: str
    """The address that it listens on."""


AddressDoubt = LimitedReach | OtherFamily
