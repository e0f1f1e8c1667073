"""Estimates how long a run takes on typical machines. Pure arithmetic; the speeds are rough."""

from __future__ import annotations

import math

from barnraise.contract.shards import DataIndex
from barnraise.contract.spec import Full, Lora, RunSpec
from barnraise.models.memory_estimate import ModelShape
from coordinator.reasons.estimates import Machine, Pace
from coordinator.reasons.setup import LARGEST_SHARE

OPERATIONS_PER_SECOND: dict[Machine, float] = {"laptop": 2.8e11, "GPU": 1e13}
"""Floating point operations that a machine sustains in training. Laptop: four cores, each with the 71 GFLOP/s
that docs/PERFORMANCE.md's 5.8 s for a step of SmolLM2-135M on 512 tokens amount to. GPU: two fifths of the
25 TFLOP/s that its maker states for bf16 on an RTX 3060; not measured."""


def operations_per_token(shape: ModelShape, trainable: int, target: Lora | Full) -> float:
    """Of a forward and a backward pass, without attention's own products, which are few at short lengths.

    2 a weight forward, 2 for the gradients of activations, 2 for those of trained weights (Kaplan et al.
    2020, section 2.1). Frozen weights need only the first two. The output head counts where it is tied
    too, the embedding's look-up does not. For a mixture of experts it is an upper bound.
    """
    embedding = shape.vocabulary * shape.width
    # An untied head is among the parameters in addition to the embedding; a tied one is the embedding.
    products = shape.parameters - embedding if shape.head else shape.parameters
    if isinstance(target, Full):
        return 6.0 * products
    return 4.0 * products + 6.0 * trainable


def find_paces(
    spec: RunSpec, shape: ModelShape, trainable: int, data: DataIndex, peers: int, exchange: float
) -> tuple[Pace, ...]:
    """The pace of `peers` laptops, then of as many GPUs. exchange: seconds that a round's exchange takes."""
    work = operations_per_token(shape, trainable, spec.train.target)
    return tuple(
        _pace(machine, spec, speed / work, data, peers, exchange)
        for machine, speed in OPERATIONS_PER_SECOND.items()
    )


def _pace(
    machine: Machine, spec: RunSpec, speed: float, data: DataIndex, peers: int, exchange: float
) -> Pace:
    """speed: tokens a second of one volunteer; padding is computed like tokens."""
    batch = spec.train.batch * data.sequence_length
    step, epoch_work = batch / speed, data.samples * data.sequence_length
    training = _training_seconds(spec, step, speed * peers)
    length = training if _overlaps(spec, training, exchange) else training + exchange
    round_epochs = speed * peers * training / epoch_work
    epoch = length / round_epochs
    return Pace(
        machine=machine,
        step=step,
        steps_an_epoch=epoch_work / (batch * peers),
        rounds=math.ceil(1 / round_epochs),
        epoch=epoch,
        round_epochs=round_epochs,
        tokens_a_day=data.tokens * 86_400 / epoch,
    )


def _training_seconds(spec: RunSpec, step: float, together: float) -> float:
    """Of a round's training phase, which its steps or its tokens may end early."""
    ends = [spec.round.seconds]
    if spec.round.steps is not None:
        ends.append(spec.round.steps * step)
    if spec.round.target_tokens is not None:
        ends.append(spec.round.target_tokens / together)
    return min(ends)


def _overlaps(spec: RunSpec, training: float, exchange: float) -> bool:
    if spec.round.overlap == "auto":
        return exchange > LARGEST_SHARE * training
    return spec.round.overlap == "always"
