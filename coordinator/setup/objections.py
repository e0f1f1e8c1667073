"""Objects to runs that would learn little: pure decisions from the spec, the model's shape and the data."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from barnraise.contract.spec import AdamW, Lora, RunSpec, Sgd
from barnraise.contract.state import Layout
from barnraise.models.memory_estimate import ModelShape
from coordinator.reasons.dataset import BuiltDataset
from coordinator.reasons.estimates import Pace
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
    RateKey,
    RateLow,
    Refusal,
    RepeatsOften,
    RoundAboveData,
    WarmupTooLong,
)
from coordinator.setup.practice import HIGH, LOW, usual_rate

_MUON_FACTOR = 2
"""Muon's rate may be twice as high: its steps are scaled to AdamW's size, and its best rate was twice AdamW's
(docs/PERFORMANCE.md)."""
_DIVERGES, _DOES_NOTHING = 50, 1e-5
"""Multiples of the usual rate outside of which no run can learn. At 76 times it, ten steps raised the
held-out loss of SmolLM2-135M with an adapter from 2.8 to 16.3 nats, and at 8 times to 3.8. At the lower
one, 100,000 steps together move a weight less than one usual step."""
_ENOUGH_TEXT = 50_000
"""Trained tokens: about the 50 to 100 good examples from which on OpenAI's guide to fine-tuning sees results,
at 500 to 1,000 tokens each."""
_MOST_TEXT = 0.5
"""Share of the tokens that one document may have."""
_ENOUGH_HELD_OUT = 1_000
"""Tokens: their mean loss has a standard error of about 0.08 nats where a token's loss varies by 2.5."""
_USEFUL_EPOCHS = 4
"""Up to four, repeated text is about as good as new text (Muennighoff et al. 2023, "Scaling Data-Constrained
Language Models")."""
_MEMORIZES = 0.5
"""Trained values for each trained token above which the model can memorize the text: an adapter holds
about 2 bits a value, and a token of text has about 1 (Schulman et al. 2025)."""
_WARMUP_SHARE = 0.1
"""Of the useful steps that warm-up may take: the field's 3 to 10 %."""
_MOST_PADDING, _FEW_SAMPLES = 0.5, 16
"""Share of padding that is objected to, and samples below which the last, unfilled ones explain it."""
_SCALES = (0.125, 8.0)
"""alpha / rank: 0.5 to 2 is usual."""
_GAINS = (0.3, 3.0)
"""lr / (1 - momentum) of the outer SGD: 1 to 2.3 were good here, 7 (DiLoCo's default for pre-training) is
worse than none for fine-tuning (docs/PERFORMANCE.md)."""


@dataclass(frozen=True)
class RunFacts:
    """What objections are based on."""

    spec: RunSpec
    shape: ModelShape
    tensors: Layout
    """The trainable tensors."""
    dataset: BuiltDataset
    peers: int
    laptops: Pace
    """The pace of `peers` laptops."""


def find_refusal(spec: RunSpec, shape: ModelShape) -> Refusal | None:
    """Why no run with these settings can learn; None where it may."""
    if (found := _rate(spec)) is None:
        return None
    (key, rate), usual = found, usual_rate(spec.train.target, shape.width)
    if rate > _DIVERGES * usual:
        return RateDiverges(key, rate, usual)
    if rate < _DOES_NOTHING * usual:
        return RateDoesNothing(key, rate, usual)
    return None


def find_objections(facts: RunFacts) -> list[Objection]:
    """What makes the run likely to be useless, most costly first."""
    return [
        *_trust_objections(facts.spec),
        *_rate_objections(facts),
        *_text_objections(facts),
        *_held_out_objections(facts),
        *_repetition_objections(facts),
        *_batch_objections(facts),
        *_warmup_objections(facts),
        *_padding_objections(facts),
        *_adapter_objections(facts),
        *_outer_objections(facts),
    ]


def _trust_objections(spec: RunSpec) -> Iterator[Objection]:
    if spec.trust.mode == "open" and not spec.trust.vouched:
        yield NobodyVouched()


def _rate(spec: RunSpec) -> tuple[RateKey, float] | None:
    """The learning rate of the run's Adam-like optimizer; None where plain SGD takes the gradients."""
    if spec.train.method == "diloco":
        return "train.inner.lr", spec.train.inner.lr
    return ("outer.lr", spec.outer.lr) if isinstance(spec.outer, AdamW) else None


def _rate_objections(facts: RunFacts) -> Iterator[Objection]:
    if (found := _rate(facts.spec)) is None:
        return
    (key, rate), usual = found, usual_rate(facts.spec.train.target, facts.shape.width)
    muon = key == "train.inner.lr" and facts.spec.train.inner.optimizer == "muon"
    if rate > HIGH * usual * (_MUON_FACTOR if muon else 1):
        yield RateHigh(key, rate, usual)
    if rate < LOW * usual:
        yield RateLow(key, rate, usual)


def _text_objections(facts: RunFacts) -> Iterator[Objection]:
    built = facts.dataset
    records = built.records - built.held_out_records
    if records == 1:
        yield OneRecord()
        return
    share = built.longest_document / (built.index.tokens + built.held_out.tokens)
    if share > _MOST_TEXT:
        yield OneDocument(share, built.longest_document)
    if built.index.trained_tokens < _ENOUGH_TEXT:
        epochs = facts.laptops.epochs_a_day
        yield LittleText(records, built.index.trained_tokens, _ENOUGH_TEXT, facts.peers, epochs)


def _held_out_objections(facts: RunFacts) -> Iterator[Objection]:
    spec, held_out = facts.spec, facts.dataset.held_out
    if not spec.data.held_out:
        yield NotEvaluated("data.held_out")
    elif not spec.checkpoint.held_out_tokens:
        yield NotEvaluated("checkpoint.held_out_tokens")
    elif not held_out.shards:
        yield NotEvaluated(None)
    elif (tokens := min(held_out.trained_tokens, spec.checkpoint.held_out_tokens)) < _ENOUGH_HELD_OUT:
        yield LittleHeldOut(tokens, _ENOUGH_HELD_OUT, limited=held_out.trained_tokens > tokens)


def _repetition_objections(facts: RunFacts) -> Iterator[Objection]:
    laptops = facts.laptops
    if (trained := facts.dataset.index.trained_tokens) < _ENOUGH_TEXT:
        return  # there is another objection to so little text
    share = facts.tensors.parameters / trained
    if laptops.epochs_a_day > _USEFUL_EPOCHS and share > _MEMORIZES:
        hours = _USEFUL_EPOCHS * laptops.epoch / 3600
        yield RepeatsOften(facts.peers, laptops.epochs_a_day, _USEFUL_EPOCHS, hours, share)


def _batch_objections(facts: RunFacts) -> Iterator[Objection]:
    spec, data = facts.spec, facts.dataset.index
    if spec.train.batch * facts.peers > data.samples:
        yield BatchAboveData(spec.train.batch, facts.peers, data.samples)
    if (target := spec.round.target_tokens) is not None and target > data.tokens:
        yield RoundAboveData("round.target_tokens", target / data.tokens, data.tokens)
    if (steps := spec.round.steps) is not None and steps > facts.laptops.steps_an_epoch:
        once = facts.laptops.steps_an_epoch
        yield RoundAboveData("round.steps", steps / once, math.ceil(once))


def _warmup_objections(facts: RunFacts) -> Iterator[Objection]:
    warmup = facts.spec.train.inner.warmup_steps
    useful = math.ceil(_USEFUL_EPOCHS * facts.laptops.steps_an_epoch)
    if facts.spec.train.method == "diloco" and warmup > useful:
        yield WarmupTooLong(warmup, useful, int(_WARMUP_SHARE * useful))


def _padding_objections(facts: RunFacts) -> Iterator[Objection]:
    built, data = facts.dataset, facts.dataset.index
    padding = 1 - data.tokens / (data.samples * data.sequence_length)
    if padding > _MOST_PADDING and data.samples >= _FEW_SAMPLES:
        mean = data.tokens / (built.records - built.held_out_records)
        enough = 2 ** math.ceil(math.log2(2 * mean))
        if enough < data.sequence_length:
            yield MostlyPadding(padding, data.sequence_length, mean, enough)


def _adapter_objections(facts: RunFacts) -> Iterator[Objection]:
    target = facts.spec.train.target
    if not isinstance(target, Lora):
        return
    lowest, highest = _SCALES
    if not lowest <= target.alpha / target.rank <= highest:
        yield AdapterScale(target.alpha, target.rank)
    for layer, (outputs, inputs) in sorted(_adapted(facts.tensors).items()):
        if target.rank * (outputs + inputs) >= outputs * inputs:
            yield RankAboveLayer(target.rank, layer, outputs, inputs)
            return


def _adapted(tensors: Layout) -> dict[str, tuple[int, int]]:
    """Outputs and inputs of each adapted layer: A is [rank, inputs], B is [outputs, rank]."""
    shapes = dict(tensors)
    ends = (".lora_A.weight", ".lora_B.weight")
    layers = [name.removesuffix(ends[0]) for name in shapes if name.endswith(ends[0])]
    return {layer: (shapes[layer + ends[1]][0], shapes[layer + ends[0]][1]) for layer in layers}


def _outer_objections(facts: RunFacts) -> Iterator[Objection]:
    outer = facts.spec.outer
    if facts.spec.train.method == "diloco" and isinstance(outer, Sgd):
        gain = outer.lr / (1 - outer.momentum)
        if not _GAINS[0] <= gain <= _GAINS[1]:
            yield OuterGain(gain, _GAINS)
