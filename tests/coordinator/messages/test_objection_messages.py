"""The words of objections and refusals; no other test asserts them."""

from __future__ import annotations

import pytest

from coordinator.messages.objections import objection_message, refusal_fix, refusal_problem
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
    RepeatsOften,
    RoundAboveData,
    WarmupTooLong,
)


def test_refusals() -> None:
    high = RateDiverges("train.inner.lr", 1.0, 2.9e-4)
    assert refusal_problem(high) == (
        "train.inner.lr is 1, 3,448 times what is usual for this model: it would be destroyed within a few"
        " steps"
    )
    assert refusal_fix(high) == "Set train.inner.lr to about 0.0003."
    low = RateDoesNothing("outer.lr", 1e-12, 2.9e-4)
    assert refusal_problem(low) == (
        "outer.lr is 1e-12, and 0.0003 is usual for this model: 100,000 steps would change it less than one"
        " should"
    )


@pytest.mark.parametrize(
    ("objection", "words"),
    [
        (
            RateHigh("train.inner.lr", 3e-3, 3e-4),
            "train.inner.lr is 0.003, 10 times what is usual for this model: the loss is likely to rise. Set"
            " it to about 0.0003.",
        ),
        (
            RateLow("train.inner.lr", 3e-6, 3e-4),
            "train.inner.lr is 3e-06, 1/100 of what is usual for this model: it will learn next to nothing."
            " Set it to about 0.0003.",
        ),
        (
            OneRecord(),
            "the training data is one record, which the model will memorize. Add records, or split this one.",
        ),
        (
            OneDocument(0.8, 12_345),
            "80% of the text is one document of 12,345 tokens, which is either held out or trained on as a"
            " whole. Split it.",
        ),
        (
            LittleText(11, 363, 50_000, 4, 168_708.0),
            "363 trained tokens in 11 records are little to learn from: 4 laptops see them 170,000 times a"
            " day. Give it 50,000 or more.",
        ),
        (
            RepeatsOften(4, 48.3, 4, 2.0, 1.25),
            "4 laptops see the text 48 times a day, and train 1.2 values for each of its tokens: after 4"
            " times, in about 2 hours, the model begins to memorize it. Stop then, or add text.",
        ),
        (
            BatchAboveData(8, 4, 20),
            "one step of 4 volunteers takes 32 samples, and the data has 20. Lower train.batch, or add text.",
        ),
        (
            RoundAboveData("round.steps", 2.5, 100),
            "with this round.steps a round trains on the data 2.5 times before anything is averaged. Set it"
            " to 100 or less.",
        ),
        (
            NobodyVouched(),
            "the run is open, and trust.vouched names no key: nothing bounds what strangers hold of a round."
            " Name your own volunteers: `peer key` prints each one's key.",
        ),
        (
            NotEvaluated("data.held_out"),
            "data.held_out is 0, so no checkpoint is evaluated: it stays unknown whether the model improves."
            " Leave it out of run.toml.",
        ),
        (
            NotEvaluated(None),
            "nothing is held out, because the data has too few different records: it stays unknown whether"
            " the model improves. Add records.",
        ),
        (
            LittleHeldOut(104, 1000, limited=False),
            "104 held-out tokens are too few to distinguish checkpoints. Raise data.held_out, or add records,"
            " until it is 1,000 or more.",
        ),
        (
            LittleHeldOut(104, 1000, limited=True),
            "104 held-out tokens are too few to distinguish checkpoints. Raise checkpoint.held_out_tokens"
            " to 1,000 or more.",
        ),
        (
            WarmupTooLong(2000, 400, 40),
            "the warm-up of 2,000 steps is longer than the 400 in which each volunteer has done its share of"
            " four epochs. Set train.inner.warmup_steps to 40 or less.",
        ),
        (
            MostlyPadding(0.927, 4096, 300.0, 1024),
            "93% of the samples is padding: records have 300 tokens on average, and samples 4,096. Set"
            ' data.packing to "auto", or data.sequence_length to 1,024.',
        ),
        (
            AdapterScale(256.0, 8),
            "alpha / rank of the adapter is 32, and 0.5 to 2 is usual: it multiplies the learning rate. Set"
            " train.target.alpha to 16.",
        ),
        (
            RankAboveLayer(512, "layers.0.k_proj", 192, 576),
            "at rank 512 the adapter has more values than the layer layers.0.k_proj (192 x 576). Lower"
            ' train.target.rank, or train everything: target = { kind = "full" }.',
        ),
        (
            OuterGain(7.0, (0.3, 3.0)),
            "outer.lr / (1 - outer.momentum) is 7, and 1 to 2 is usual in fine-tuning: the loss is likely to"
            " rise. Set outer.lr to 1 and outer.momentum to 0.",
        ),
        (
            OuterGain(0.1, (0.3, 3.0)),
            "outer.lr / (1 - outer.momentum) is 0.1, and 1 to 2 is usual in fine-tuning: most of a round's"
            " work is lost. Set outer.lr to 1 and outer.momentum to 0.",
        ),
    ],
)
def test_objection_message(objection: Objection, words: str) -> None:
    assert objection_message(objection) == words
