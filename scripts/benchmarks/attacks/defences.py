"""What a run does against attackers, in the arms of `scripts/bench attacks`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from barnraise.contract.spec import TrustSpec
from barnraise.contract.standing import Standing
from barnraise.contract.state import TrainState
from barnraise.contract.weights import Claim, Limits, weigh
from barnraise.core.ids import PublicKey
from barnraise.fold.aggregators import Aggregate, Contribution
from barnraise.fold.codec import Decoder

Arm = Literal["none", "caps", "audits"]
ARMS: dict[Arm, str] = {
    "none": "the mean, weighted by claimed tokens",
    "caps": "the weights and the clipped mean of open runs",
    "audits": "the defaults of open runs: weights, clipped mean and audits",
}
AGGREGATES: dict[Arm, Aggregate] = {"none": "mean", "caps": "clipped_mean", "audits": "clipped_mean"}


@dataclass(frozen=True)
class Sent:
    """One contribution to a round."""

    key: PublicKey
    blob: bytes
    decoder: Decoder
    tokens: int


class Defence(Protocol):
    """The rules of one arm."""

    @property
    def suspended(self) -> frozenset[PublicKey]:
        """Keys that were suspended at some time."""
        ...

    def weigh(self, sent: Sequence[Sent]) -> list[Contribution]:
        """The contributions as the fold takes them."""
        ...

    def after(self, before: TrainState, after: TrainState, sent: Sequence[Sent]) -> TrainState:
        """Look at a round that was folded. Returns the state that the run goes on with."""
        ...


@dataclass
class Undefended:
    """Everybody counts by what they claim."""

    suspended: frozenset[PublicKey] = frozenset()

    def weigh(self, sent: Sequence[Sent]) -> list[Contribution]:
        return [Contribution.unlimited(each.decoder, each.tokens) for each in sent]

    def after(self, before: TrainState, after: TrainState, sent: Sequence[Sent]) -> TrainState:
        return after


@dataclass
class Caps:
    """The weights of an open run, in which some keys are trusted."""

    trusted: frozenset[PublicKey]
    suspended: frozenset[PublicKey] = frozenset()
    trust: TrustSpec = field(default_factory=lambda: TrustSpec(mode="open"))

    def standing(self, key: PublicKey) -> Standing:
        """Of any key."""
        return Standing("trusted" if key in self.trusted else "probation")

    def weigh(self, sent: Sequence[Sent]) -> list[Contribution]:
        claims = [Claim(each.tokens, self.standing(each.key)) for each in sent]
        weighed = weigh(claims, Limits.of(self.trust))
        return [
            Contribution(each.decoder, found.weight, found.tokens, found.trusted)
            for each, found in zip(sent, weighed, strict=True)
        ]

    def after(self, before: TrainState, after: TrainState, sent: Sequence[Sent]) -> TrainState:
        return after
