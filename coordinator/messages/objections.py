"""Renders objections to a run: what would happen, and the setting to change."""

from __future__ import annotations

from typing_extensions import assert_never

from coordinator.messages.estimates import rounded
from coordinator.reasons.objections import (
    AdapterScale,
    BatchAboveData,
    LittleHeldOut,
    LittleText,
    MostlyPadding,
    NobodyVouched,
    NotEvaluated,
    Objection,
    OneDocument,
    OneRecord,
    OuterGain,
    RankAboveLayer,
    RateDiverges,
    RateDoesNothing,
    RateHigh,
    RateLow,
    Refusal,
    RepeatsOften,
    RoundAboveData,
    WarmupTooLong,
)


def refusal_problem(refusal: Refusal) -> str:
    """Why no run may start."""
    match refusal:
        case RateDiverges(key, rate, usual):
            return (
                f"{key} is {rate:g}, {rate / usual:,.0f} times what is usual for this model: it would be"
                " destroyed within a few steps"
            )
        case RateDoesNothing(key, rate, usual):
            return (
                f"{key} is {rate:g}, and {usual:.1g} is usual for this model: 100,000 steps would change it"
                " less than one should"
            )
        case _:
            assert_never(refusal)


def refusal_fix(refusal: Refusal) -> str:
    """The setting to change."""
    return f"Set {refusal.key} to about {refusal.usual:.1g}."


def objection_message(objection: Objection) -> str:
    """What is likely to go wrong, and what to change."""
    match objection:
        case NobodyVouched():
            return (
                "the run is open, and trust.vouched names no key: nothing bounds what strangers hold of a"
                " round. Name your own volunteers: `peer key` prints each one's key."
            )
        case RateHigh() | RateLow():
            return _rate(objection)
        case (
            OneRecord() | OneDocument() | LittleText() | RepeatsOften() | BatchAboveData() | RoundAboveData()
        ):
            return _data(objection)
        case NotEvaluated() | LittleHeldOut():
            return _held_out(objection)
        case WarmupTooLong() | MostlyPadding() | AdapterScale() | RankAboveLayer() | OuterGain():
            return _setting(objection)
        case _:
            assert_never(objection)


def _rate(objection: RateHigh | RateLow) -> str:
    match objection:
        case RateHigh(key, rate, usual):
            return (
                f"{key} is {rate:g}, {rate / usual:.0f} times what is usual for this model: the loss is"
                f" likely to rise. Set it to about {usual:.1g}."
            )
        case RateLow(key, rate, usual):
            return (
                f"{key} is {rate:g}, 1/{usual / rate:,.0f} of what is usual for this model: it will"
                f" learn next to nothing. Set it to about {usual:.1g}."
            )
        case _:
            assert_never(objection)


def _data(
    objection: OneRecord | OneDocument | LittleText | RepeatsOften | BatchAboveData | RoundAboveData,
) -> str:
    match objection:
        case OneRecord():
            return (
                "the training data is one record, which the model will memorize. Add records, or split"
                " this one."
            )
        case OneDocument(share, tokens):
            return (
                f"{share:.0%} of the text is one document of {tokens:,} tokens, which is either held out or"
                " trained on as a whole. Split it."
            )
        case LittleText(records, tokens, enough, peers, epochs):
            return (
                f"{tokens:,} trained tokens in {records:,} records are little to learn from: {peers} laptops"
                f" see them {rounded(epochs)} times a day. Give it {enough:,} or more."
            )
        case RepeatsOften(peers, epochs, useful, hours, share):
            return (
                f"{peers} laptops see the text {rounded(epochs)} times a day, and train {share:.1f}"
                f" values for each of its tokens: after {useful} times, in about {_hours(hours)}, the model"
                " begins to memorize it. Stop then, or add text."
            )
        case BatchAboveData(batch, peers, samples):
            return (
                f"one step of {peers} volunteers takes {batch * peers} samples, and the data has {samples}."
                " Lower train.batch, or add text."
            )
        case RoundAboveData(setting, epochs, enough):
            return (
                f"with this {setting} a round trains on the data {rounded(epochs)} times before anything is"
                f" averaged. Set it to {enough:,} or less."
            )
        case _:
            assert_never(objection)


def _held_out(objection: NotEvaluated | LittleHeldOut) -> str:
    match objection:
        case NotEvaluated(None):
            return (
                "nothing is held out, because the data has too few different records: it stays unknown"
                " whether the model improves. Add records."
            )
        case NotEvaluated(setting):
            return (
                f"{setting} is 0, so no checkpoint is evaluated: it stays unknown whether the model improves."
                " Leave it out of run.toml."
            )
        case LittleHeldOut(tokens, enough, limited):
            remedy = (
                f"Raise checkpoint.held_out_tokens to {enough:,} or more."
                if limited
                else f"Raise data.held_out, or add records, until it is {enough:,} or more."
            )
            return f"{tokens:,} held-out tokens are too few to distinguish checkpoints. {remedy}"
        case _:
            assert_never(objection)


def _setting(objection: WarmupTooLong | MostlyPadding | AdapterScale | RankAboveLayer | OuterGain) -> str:
    match objection:
        case WarmupTooLong(steps, useful, enough):
            return (
                f"the warm-up of {steps:,} steps is longer than the {useful:,} in which each volunteer has"
                " done its share of four epochs. Set train.inner.warmup_steps to"
                f" {enough:,}{' or less' if enough else ''}."
            )
        case MostlyPadding(share, length, mean, enough):
            return (
                f"{share:.0%} of the samples is padding: records have {mean:.0f} tokens on average, and"
                f' samples {length:,}. Set data.packing to "auto", or data.sequence_length to {enough:,}.'
            )
        case AdapterScale(alpha, rank):
            return (
                f"alpha / rank of the adapter is {alpha / rank:g}, and 0.5 to 2 is usual: it multiplies the"
                f" learning rate. Set train.target.alpha to {2 * rank}."
            )
        case RankAboveLayer(rank, layer, outputs, inputs):
            return (
                f"at rank {rank} the adapter has more values than the layer {layer} ({outputs} x {inputs})."
                ' Lower train.target.rank, or train everything: target = { kind = "full" }.'
            )
        case OuterGain(gain, usual):
            effect = "the loss is likely to rise" if gain > usual[1] else "most of a round's work is lost"
            return (
                f"outer.lr / (1 - outer.momentum) is {gain:.2g}, and 1 to 2 is usual in fine-tuning:"
                f" {effect}. Set outer.lr to 1 and outer.momentum to 0."
            )
        case _:
            assert_never(objection)


def _hours(hours: float) -> str:
    return f"{hours:.0f} hours" if hours >= 2 else f"{60 * hours:.0f} minutes"
