"""What is found out before a run starts: about licences, the spec, and what the run needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from barnraise.contract.spec import Dense, RunSpec, Sgd, Sparse
from barnraise.core.reason import Reason
from barnraise.rehearsal.outcomes import Rehearsal
from coordinator.reasons.dataset import BuiltDataset
from coordinator.reasons.estimates import Needs, Pace
from coordinator.reasons.objections import Objection

# Licences


@dataclass(frozen=True)
class Redistributable:
    """The licence permits redistribution."""

    licence: str
    """Its name, as `OPEN` has it."""


@dataclass(frozen=True)
class NotRedistributable(Reason):
    """The licence is not known to permit redistribution."""

    key: str
    """Where the run spec names it, such as `data.licence`."""
    licence: str
    """As the run spec has it."""


@dataclass(frozen=True)
class BaseChanged(Reason):
    """The base model's files are not those that the run was chartered with."""


@dataclass(frozen=True)
class BaseServed(Reason):
    """Volunteers can fetch the base model from the run."""

    size: int
    """Bytes."""


@dataclass(frozen=True)
class BaseNotServed(Reason):
    """Volunteers cannot fetch the base model from the run."""

    reason: NotRedistributable | BaseChanged


@dataclass(frozen=True)
class BaseDelivery(Reason):
    """How volunteers get the base model of a run."""

    source: str
    """As volunteers see it."""
    public: bool
    """Whether the source is a package or on the Hub, where volunteers find it as well."""
    served: BaseServed | BaseNotServed


# Recommended settings

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
    enough: int | None
    """`round.seconds` that would be enough; None where no permitted length is."""
    smaller: Dense | Sparse | None
    """The recommended codec, where it sends less than the spec's."""


@dataclass(frozen=True)
class GraceTooShort(Reason):
    """The exchange takes longer than the time that a late contribution gets."""

    grace: float
    enough: int | None
    """`round.grace` that would be enough; None where no permitted one is."""
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


@dataclass(frozen=True)
class OuterStrays(Reason):
    """The outer step is the mean, and another one learned more for this number of contributions."""

    volunteers: int
    """Of the measurement: no more than the run's."""
    kept: int
    """Per cent of what data parallel training gains over one machine that the mean kept."""
    step: Sgd
    """The best outer step."""
    best: int
    """Per cent that it kept."""


@dataclass(frozen=True)
class TurnsWithMomentum(Reason):
    """The outer step has momentum, and more volunteers than have places in a round take turns."""

    volunteers: int
    places: int


@dataclass(frozen=True)
class RateStrays(Reason):
    """The inner learning rate is not near the usual one."""

    rate: float
    usual: float


SpecWarning = (
    ExchangeTooLong
    | GraceTooShort
    | SparseNotNeeded
    | DensityTooLow
    | SparseWithAdamW
    | MuonOverhead
    | OuterStrays
    | TurnsWithMomentum
    | RateStrays
)
"""Where a valid spec is far from the recommendation."""

# `coordinator check`

PERMANENT_CHECKPOINTS = 3
"""Kept in addition to the newest: the promoted one, the best, and the one where a replay starts."""


@dataclass(frozen=True)
class MainWithinBest(Reason):
    """`main` is the newest checkpoint whose held-out loss is close to the best."""

    within: float
    """Share by which its loss may be above the best one."""


@dataclass(frozen=True)
class MainNewestUnevaluated(Reason):
    """`main` is the newest checkpoint: the spec asks for no evaluation."""


@dataclass(frozen=True)
class MainNewestNothingHeldOut(Reason):
    """`main` is the newest checkpoint: there is no text to evaluate on."""


MainPolicy = MainWithinBest | MainNewestUnevaluated | MainNewestNothingHeldOut
"""Which checkpoint will be called main."""


@dataclass(frozen=True)
class CheckReport:
    """A run that can start: what it needs and serves, and what should change."""

    spec: RunSpec
    peers: int
    """Volunteers that the numbers hold for."""
    uplink_mbit: float
    """Their upload speed, in Mbit/s."""
    needs: Needs
    exchange: float
    """Seconds that a round's exchange takes."""
    dataset: BuiltDataset
    rehearsal: Rehearsal
    recommendation: Recommendation
    paces: tuple[Pace, ...]
    objections: Sequence[Objection]
    """Against the training itself, most costly first."""
    warnings: Sequence[SpecWarning]
    """About the exchange."""
    main: MainPolicy
    model_licence: Redistributable | NotRedistributable
    data_licence: Redistributable | NotRedistributable
