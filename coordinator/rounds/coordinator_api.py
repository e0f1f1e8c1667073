"""What a coordinator answers to those who ask it: the calls of the gRPC service, without gRPC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from barnraise.contract.records import Evaluation, JoinClaim
from barnraise.contract.status import RunStatus
from barnraise.core.ids import Millis
from barnraise.core.signed import Signed


@dataclass(frozen=True)
class JoinResult:
    """What a joiner gets."""

    charter: bytes
    admission: bytes
    head: bytes
    now: Millis


class CoordinatorApi(Protocol):
    """What the service translates to."""

    def charter(self) -> bytes: ...

    def join(self, claim: Signed[JoinClaim]) -> JoinResult:
        """Raises RefusedError."""
        ...

    def evaluate(self, evaluation: Signed[Evaluation]) -> str:
        """What came of it, for people. Raises RefusedError."""
        ...

    def status(self) -> RunStatus: ...
