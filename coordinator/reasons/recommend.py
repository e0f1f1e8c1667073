"""Which settings are recommended for a run, and where its spec is far from them."""

from __future__ import annotations

from dataclasses import dataclass

from barnraise.contract.spec import Dense, Sparse
from barnraise.core.reason import Reason

LARGEST_SHARE = 0.1
"""Of a round that its exchange may take."""


LOWEST_DENSITY = 1 / 64
"""Below it updates arrive so late that training alone does better."""


@dataclass(frozen=True)
class CodecOption:
    """A codec, and what a round's exchange costs with it."""

    codec: Dense | Sparse
    exchange: float
    """Seconds."""


@dataclass(frozen=True)
class CodecChoice(Reason):
    """Why a codec is recommended: how long its exchange takes, and why no larger one is."""

    exchange: float
    """Seconds."""
    round_seconds: float
    """The round that the exchange is compared with."""
    larger: CodecOption | None
    """The next larger codec, whose exchange is too long; None where the largest one fits."""
    rounds: int | None
    """Rounds that a sparse codec needs, at least; None for a dense one."""
    too_long: bool
    """Whether not even this exchange fits, and no smaller codec is worthwhile."""
    sparse_by_diloco: bool
    """Whether `train.method = "diloco"` would permit a sparse codec, which would fit better."""


@dataclass(frozen=True)
class Recommendation:
    """Settings for a run at a given number of volunteers and upload speed."""

    codec: Dense | Sparse
    seconds: int
    """`round.seconds`, at least."""
    grace: int
    """`round.grace`, at least."""
    exchange: float
    """Seconds that a round's exchange takes with this codec."""
    because: CodecChoice


@dataclass(frozen=True)
class ExchangeTooLong(Reason):
    """The exchange takes too large a share of a round."""

    share: float
    overlaps: bool
    """Whether training continues during the exchange."""
    enough: int
    """`round.seconds` that would be enough."""
    smaller: Dense | Sparse | None
    """The recommended codec, where it sends less than the spec's."""


@dataclass(frozen=True)
class GraceTooShort(Reason):
    """The exchange takes longer than the time that a late contribution gets."""

    grace: float
    enough: int
    """`round.grace` that would be enough."""
    smaller: Dense | Sparse | None
    """The recommended codec, where it sends less than the spec's."""


@dataclass(frozen=True)
class SparseNotNeeded(Reason):
    """A dense codec fits, and a sparse one delays updates."""

    codec: Dense
    """The recommended one."""
    because: CodecChoice


@dataclass(frozen=True)
class DensityTooLow(Reason):
    """Updates arrive too late to be of use."""

    density: float
    lowest: float = LOWEST_DENSITY


@dataclass(frozen=True)
class SparseWithAdamW(Reason):
    """The outer AdamW takes what a sparse codec leaves out for gradients of zero."""

    codec: Dense | Sparse
    """The recommended one."""


@dataclass(frozen=True)
class MuonOverhead(Reason):
    """Muon's own work is large against that of a step."""

    share: float
    """Of a step's work that Muon adds."""
    batch: int
    enough: int
    """`train.batch` that would be enough."""


SpecWarning = (
    ExchangeTooLong | GraceTooShort | SparseNotNeeded | DensityTooLow | SparseWithAdamW | MuonOverhead
)
"""Where a valid spec is far from the recommendation."""
