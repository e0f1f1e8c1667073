"""Why a valid run would learn little: settings and data that do not belong together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from barnraise.core.reason import Reason

RateKey = Literal["train.inner.lr", "outer.lr"]
"""The setting that is the learning rate of a run's optimizer."""


@dataclass(frozen=True)
class RateDiverges(Reason):
    """At this learning rate the model is destroyed within a few steps."""

    key: RateKey
    rate: float
    usual: float
    """The rate that is usual for what is trained and for the model's width."""


@dataclass(frozen=True)
class RateDoesNothing(Reason):
    """At this learning rate a run ends where it begins."""

    key: RateKey
    rate: float
    usual: float


Refusal = RateDiverges | RateDoesNothing
"""Why no run may start."""


@dataclass(frozen=True)
class RateHigh(Reason):
    """The learning rate is far above the usual one."""

    key: RateKey
    rate: float
    usual: float


@dataclass(frozen=True)
class RateLow(Reason):
    """The learning rate is far below the usual one."""

    key: RateKey
    rate: float
    usual: float


@dataclass(frozen=True)
class OneRecord(Reason):
    """The training data is one record, which the model memorizes."""


@dataclass(frozen=True)
class OneDocument(Reason):
    """Most of the text is one document."""

    share: float
    tokens: int
    """Of that document."""


@dataclass(frozen=True)
class LittleText(Reason):
    """There is too little text to learn from."""

    records: int
    trained_tokens: int
    enough: int
    """Trained tokens from which on results are usually seen."""
    peers: int
    epochs_a_day: float
    """That laptops see."""


@dataclass(frozen=True)
class NotEvaluated(Reason):
    """No checkpoint is evaluated, so that neither overfitting nor divergence is seen."""

    setting: Literal["data.held_out", "checkpoint.held_out_tokens"] | None
    """The setting that is 0; None where the data has too few different records."""


@dataclass(frozen=True)
class LittleHeldOut(Reason):
    """The held-out part is too small to distinguish checkpoints."""

    tokens: int
    """Held-out tokens of an evaluation."""
    enough: int
    limited: bool
    """By `checkpoint.held_out_tokens`: the data has more."""


@dataclass(frozen=True)
class RepeatsOften(Reason):
    """The volunteers see the same text so often that the model memorizes it."""

    peers: int
    epochs_a_day: float
    useful: int
    """Epochs after which repeated text teaches little."""
    hours: float
    """Until then."""
    parameters_per_token: float
    """Values that are trained, for each trained token of the data."""


@dataclass(frozen=True)
class BatchAboveData(Reason):
    """A step of all volunteers takes more samples than there are."""

    batch: int
    peers: int
    samples: int


@dataclass(frozen=True)
class RoundAboveData(Reason):
    """A round ends only after more tokens than the data has."""

    setting: Literal["round.target_tokens", "round.steps"]
    epochs: float
    """That a round trains on."""
    enough: int
    """Value of the setting at which a round trains on the data once."""


@dataclass(frozen=True)
class WarmupTooLong(Reason):
    """The learning rate is still rising when the text was seen as often as is useful."""

    steps: int
    useful: int
    """Steps of a volunteer until then."""
    enough: int
    """Warm-up that would be enough."""


@dataclass(frozen=True)
class MostlyPadding(Reason):
    """Most of a sample is padding, on which volunteers compute in vain."""

    share: float
    length: int
    mean: float
    """Tokens of a record."""
    enough: int
    """`data.sequence_length` that would be enough for most records."""


@dataclass(frozen=True)
class AdapterScale(Reason):
    """alpha / rank is far from what is usual."""

    alpha: float
    rank: int


@dataclass(frozen=True)
class RankAboveLayer(Reason):
    """The adapter has no fewer values than a layer that it adapts."""

    rank: int
    layer: str
    outputs: int
    inputs: int


@dataclass(frozen=True)
class OuterGain(Reason):
    """The outer optimizer multiplies what a round has learned."""

    gain: float
    """lr / (1 - momentum)."""
    usual: tuple[float, float]


@dataclass(frozen=True)
class NobodyVouched(Reason):
    """The run is open, and no key is trusted: nothing bounds what strangers hold of a round."""


Objection = (
    NobodyVouched
    | RateHigh
    | RateLow
    | OneRecord
    | OneDocument
    | LittleText
    | NotEvaluated
    | LittleHeldOut
    | RepeatsOften
    | BatchAboveData
    | RoundAboveData
    | WarmupTooLong
    | MostlyPadding
    | AdapterScale
    | RankAboveLayer
    | OuterGain
)
"""What is likely to make a run useless, though it can run."""
