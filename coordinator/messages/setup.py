"""Renders what is found out before a run starts: recommendations, warnings, licences."""

from __future__ import annotations

from typing_extensions import assert_never

from barnraise.contract.spec import CodecSpec, Dense, Raw, Sparse
from barnraise.core.units import format_bytes
from coordinator.reasons.setup import (
    LARGEST_SHARE,
    BaseChanged,
    BaseDelivery,
    BaseNotServed,
    BaseServed,
    CodecChoice,
    DensityTooLow,
    ExchangeTooLong,
    GraceTooShort,
    MuonOverhead,
    NotRedistributable,
    OuterStrays,
    RateStrays,
    SparseNotNeeded,
    SparseWithAdamW,
    SpecWarning,
    TurnsWithMomentum,
)


def not_redistributable(reason: NotRedistributable) -> str:
    """Why a model or its data is not served."""
    return f"{reason.key} is {reason.licence!r}, which is not known to permit redistribution"


def base_delivery(delivery: BaseDelivery) -> str:
    """Where volunteers get the base model, and what the maintainer has to do where they cannot get it."""
    match delivery.served:
        case BaseServed(size):
            return f"volunteers can fetch the base model from this run ({format_bytes(size)})"
        case BaseNotServed(reason):
            return _undelivered(delivery, _not_served(reason))
        case _:
            assert_never(delivery.served)


def _undelivered(delivery: BaseDelivery, why: str) -> str:
    if delivery.public:
        return f"the base model is not served ({why}); volunteers fetch {delivery.source} themselves"
    return (
        f"WARNING: the base model is not served ({why}), and {delivery.source!r} is only on this machine."
        " Each volunteer has to get exactly this model from you and join with --base PATH."
        " If its licence permits redistribution, name it as model.licence in a new run."
    )


def _not_served(reason: NotRedistributable | BaseChanged) -> str:
    match reason:
        case NotRedistributable():
            return not_redistributable(reason)
        case BaseChanged():
            return "its files are not those that the run began with"
        case _:
            assert_never(reason)


def codec_setting(codec: CodecSpec) -> str:
    """A codec as a run spec writes it, without settings that keep their default."""
    match codec:
        case Raw():
            return 'kind = "raw"'
        case Dense(bits=bits):
            return f'kind = "dense", bits = {bits}'
        case Sparse(density=density, bits=bits):
            return f'kind = "sparse", density = {density:g}, bits = {bits}'
        case _:
            assert_never(codec)


def codec_choice(choice: CodecChoice) -> str:
    """Why a codec is recommended."""
    share = choice.exchange / choice.round_seconds
    parts = [
        f"a round's exchange takes {_seconds(choice.exchange)}, {share:.1%} of {choice.round_seconds:g} s"
    ]
    if choice.larger is not None:
        setting = codec_setting(choice.larger.codec)
        parts.append(f"with {setting} it would take {_seconds(choice.larger.exchange)}")
    if choice.rounds is not None:
        parts.append(f"plan {choice.rounds} rounds or more, or updates that wait to be sent are lost")
    if choice.too_long:
        end = ' (or set train.method = "diloco", which permits a sparse codec)'
        smaller = "nothing smaller is worthwhile, so make the rounds longer"
        parts.append(smaller + (end if choice.sparse_by_diloco else ""))
    return "; ".join(parts)


def spec_warning(warning: SpecWarning) -> str:
    """What is wrong, and the setting to change."""
    match warning:
        case ExchangeTooLong(share, overlaps, enough, smaller):
            effect = (
                "training continues meanwhile, one round behind the others" if overlaps else "training pauses"
            )
            return (
                f"the exchange takes {share:.0%} of a round, above {LARGEST_SHARE:.0%}: {effect}."
                f" {_setting('round.seconds', enough, smaller)}"
            )
        case GraceTooShort(grace, enough, smaller):
            return (
                f"the exchange takes longer than round.grace ({grace:g} s), so some contributions will be"
                f" late. {_setting('round.grace', enough, smaller)}"
            )
        case SparseNotNeeded(codec, because):
            return (
                "the sparse codec delays updates to save bytes that need not be saved here."
                f" Set codec to {codec_setting(codec)}: {codec_choice(because)}."
            )
        case DensityTooLow(density, lowest):
            return (
                f"at codec.density {density:g} updates arrive too late to be of use."
                f" Set it to {lowest:g} or more."
            )
        case SparseWithAdamW(codec):
            return (
                "the outer AdamW takes values that a sparse codec leaves out for gradients of zero."
                f" Set codec to {codec_setting(codec)}."
            )
        case MuonOverhead(share, batch, enough):
            return (
                f"Muon adds {share:.0%} to the work of a step of {batch} samples; its work does not grow with"
                f' the batch. Set train.batch to {enough} or more, or train.inner.optimizer to "adamw".'
            )
        case OuterStrays() | TurnsWithMomentum() | RateStrays():
            return _learns_less(warning)
        case _:
            assert_never(warning)


def _learns_less(warning: OuterStrays | TurnsWithMomentum | RateStrays) -> str:
    match warning:
        case OuterStrays(volunteers, kept, step, best):
            return (
                f"with {volunteers} volunteers the mean of a round kept {kept} % of what data parallel"
                f" training gains over one machine, and another outer step {best} % (docs/PERFORMANCE.md)."
                f" Set outer.lr to {step.lr:g}, outer.momentum to {step.momentum:g} and outer.nesterov to"
                f" {'true' if step.nesterov else 'false'}."
            )
        case TurnsWithMomentum(volunteers, places):
            return (
                f"of {volunteers} volunteers at most {places} contribute to a round"
                " (round.max_contributions), so they take turns, and a contribution has the work of several"
                " rounds. In a test with turns of two an outer momentum raised the loss by 2 %"
                " (docs/PERFORMANCE.md). Set outer.lr to 1, outer.momentum to 0 and outer.nesterov to false."
            )
        case RateStrays(rate, usual):
            return (
                f"train.inner.lr is {rate:g}, and {usual:.2g} is usual for this model. In a test, two fifths"
                " of the best rate halved what a round of four volunteers gains, and twice the best rate took"
                f" a quarter of it (docs/PERFORMANCE.md). Set it to about {usual:.2g}."
            )
        case _:
            assert_never(warning)


def _setting(key: str, enough: int | None, smaller: Dense | Sparse | None) -> str:
    codec = None if smaller is None else f"set codec to {codec_setting(smaller)}"
    if enough is None:
        other = codec or "lower round.max_contributions, or train an adapter instead of the whole model"
        return f"No {key} is long enough: {other}."
    return f"Set {key} to {enough} or more{'' if codec is None else f', or {codec}'}."


def _seconds(number: float) -> str:
    return f"{number:.1f} s" if number < 10 else f"{number:.0f} s"
