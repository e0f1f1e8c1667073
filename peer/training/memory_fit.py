"""How a volunteer trains in the memory that it has: how many samples at once, and what is saved on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from barnraise.contract.spec import Full, RunSpec
from barnraise.core.errors import TooLargeForMemory, UserError
from barnraise.models.memory_estimate import MICRO_BATCH_CPU, Footprint, ModelShape, Precision, footprint

FrozenPrecision = Literal["auto"] | Precision
"""What a volunteer may ask for: `auto` takes what changes the results least and fits."""

INSTALL_QUANTIZED = "pip install 'barnraise[quantized]'"


@dataclass(frozen=True)
class FreeMemory:
    """Memory that is free, bytes."""

    device: int
    """The GPU's own; the machine's where `shared`."""
    host: int
    """The machine's."""
    shared: bool
    """Device and machine have one memory: a CPU, or an Apple GPU."""

    def holds(self, needed: Footprint) -> bool:
        if self.shared:
            return needed.shared <= self.host
        return needed.device <= self.device and needed.host <= self.host

    def compare(self, needed: Footprint) -> str:
        """What is needed and what is free, where it is tightest."""
        if self.shared:
            return _compare(needed.shared, self.host, "here")
        if needed.device > self.device or needed.host <= self.host:
            return _compare(needed.device, self.device, "on the GPU")
        return _compare(needed.host, self.host, "beside the GPU")


@dataclass(frozen=True)
class Processor:
    """What of a device decides how it trains."""

    gpu: bool
    autocast: bool
    """Products run in bf16."""
    four_bit: bool
    """What the 4-bit weights need is installed."""


@dataclass(frozen=True)
class Fit:
    micro_batch: int
    """Samples that go through the model at once."""
    frozen: Precision
    """How the frozen weights are kept."""
    checkpointing: bool
    """Blocks are computed again in the backward pass instead of kept."""
    reason: str
    """For the volunteer: what was chosen, what it needs, and what there is."""


def fit(
    spec: RunSpec,
    shape: ModelShape,
    trainable_params: int,
    free_memory: FreeMemory,
    processor: Processor,
    *,
    micro_batch: int | None = None,
    frozen: FrozenPrecision = "auto",
) -> Fit:
    """The first way to train that fits `free_memory`, of those that `micro_batch` and `frozen` leave open.

    First fewer samples at once, then computing blocks twice, and only then fewer bits: the results stay
    the same as long as that is possible. Raises TooLargeForMemory where nothing
    fits, UserError where `frozen` cannot be had.
    """
    precisions = _precisions(spec, shape, processor, frozen)

    def needed(way: _Way) -> Footprint:
        return footprint(
            shape,
            trainable_params,
            spec.train.target,
            spec.train.method,
            tokens=way.micro_batch * spec.data.sequence_length,
            frozen=way.frozen,
            checkpointing=way.checkpointing,
            autocast=processor.autocast,
        )

    sizes = _sizes(spec, processor, micro_batch)
    for way in _ways(precisions, sizes, can_checkpoint=shape.blocks > 0):
        if free_memory.holds(needed(way)):
            return Fit(
                way.micro_batch, way.frozen, way.checkpointing, _reason(way, spec, needed(way), free_memory)
            )
    least = _Way(precisions[-1], shape.blocks > 0, sizes[-1])
    frugal = [_Way(bits, shape.blocks > 0, 1) for bits in _lower(spec, precisions[-1])]
    helps = next((way for way in frugal if free_memory.holds(needed(way))), None)
    raise TooLargeForMemory(
        f"training this model takes about {free_memory.compare(needed(least))}",
        fix=_advice(helps, sizes[-1], processor),
    )


@dataclass(frozen=True)
class _Way:
    frozen: Precision
    checkpointing: bool
    micro_batch: int


def _ways(precisions: list[Precision], sizes: list[int], *, can_checkpoint: bool) -> Iterator[_Way]:
    for precision in precisions:
        for checkpointing in (False, True) if can_checkpoint else (False,):
            for size in sizes:
                yield _Way(precision, checkpointing, size)


def _precisions(
    spec: RunSpec, shape: ModelShape, processor: Processor, frozen: FrozenPrecision
) -> list[Precision]:
    """Those that are open, the most exact one first."""
    if isinstance(spec.train.target, Full):
        if frozen not in ("auto", "fp32"):
            raise UserError(
                f"this run trains all parameters, so none can be frozen in {frozen}",
                fix="Leave `--frozen` out, or join a run that trains an adapter.",
            )
        return ["fp32"]
    if frozen == "4bit" and not processor.four_bit:
        raise UserError("4-bit weights need bitsandbytes, which is not installed", fix=INSTALL_QUANTIZED)
    if frozen != "auto":
        return [frozen]
    # Where products run in bf16, or the files are, weights in bf16 give the same results in half the memory.
    first: list[Precision] = ["bf16"] if processor.autocast or shape.half else ["fp32", "bf16"]
    last: list[Precision] = ["4bit"] if processor.four_bit else []
    return [*first, "8bit", *last]


def _sizes(spec: RunSpec, processor: Processor, micro_batch: int | None) -> list[int]:
    """Samples at once, the most first: on a GPU the powers of two up to the batch."""
    if micro_batch is not None:
        return [micro_batch]
    if not processor.gpu:
        return [MICRO_BATCH_CPU]
    return [2**power for power in reversed(range(spec.train.batch.bit_length()))]


def _lower(spec: RunSpec, precision: Precision) -> list[Precision]:
    """`precision` and what is below it."""
    order: list[Precision] = ["fp32", "bf16", "8bit", "4bit"]
    return [precision] if isinstance(spec.train.target, Full) else order[order.index(precision) :]


def _reason(way: _Way, spec: RunSpec, needed: Footprint, free_memory: FreeMemory) -> str:
    samples = "1 sample" if way.micro_batch == 1 else f"{way.micro_batch} samples"
    frozen = "" if isinstance(spec.train.target, Full) else f", the frozen weights in {way.frozen}"
    twice = ", blocks computed twice to save memory" if way.checkpointing else ""
    return f"{samples} at once{frozen}{twice}: about {free_memory.compare(needed)}"


def _advice(helps: _Way | None, smallest: int, processor: Processor) -> str:
    others = (
        "Close other programs, use a machine with more memory, or join a run that trains an adapter "
        "or a smaller model."
    )
    if helps is None:
        return others
    options = [f"--frozen {helps.frozen}"] + ["--micro-batch 1"] * (smallest > 1)
    if helps.frozen == "4bit" and not processor.four_bit:
        return f"4-bit weights would fit: {INSTALL_QUANTIZED}. {others}"
    return f"`{' '.join(options)}` would fit. {others}"


def _compare(needed: int, free: int, where: str) -> str:
    return f"{needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free {where}"
