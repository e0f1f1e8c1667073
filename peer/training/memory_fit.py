"""How training fits into memory: micro-batch, checkpointing, precision of the frozen weights. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from barnraise.contract.spec import Full, RunSpec
from barnraise.core.errors import TooLargeForMemory, UserError
from barnraise.core.reason import Reason
from barnraise.models.memory_estimate import MICRO_BATCH_CPU, Footprint, ModelShape, Precision, footprint

FrozenPrecision = Literal["auto"] | Precision
"""What `--frozen` accepts. `auto`: the most exact precision that fits."""

INSTALL_QUANTIZED = "pip install '.[quantized]'"
"""Installs bitsandbytes. Runs in the checkout: no package `barnraise` is published."""

_OTHER_REMEDIES = (
    "Close other programs, use a machine with more memory, or join a run that trains an adapter "
    "or a smaller model."
)


@dataclass(frozen=True)
class MemoryNeed:
    """What training needs and what is free, where memory is tightest; bytes."""

    needed: int
    free: int
    where: Literal["machine", "gpu", "host"]
    """machine: the one memory of a CPU or an Apple GPU. gpu, host: a GPU's own memory, and the machine's."""

    def __str__(self) -> str:
        places = {"machine": "here", "gpu": "on the GPU", "host": "outside the GPU"}
        return f"{self.needed / 1e9:.1f} GB, and {self.free / 1e9:.1f} GB are free {places[self.where]}"


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

    def tightest(self, needed: Footprint) -> MemoryNeed:
        """The memory that `needed` fits into least: the GPU's, unless only the machine's is too small."""
        if self.shared:
            return MemoryNeed(needed.shared, self.host, "machine")
        if needed.device > self.device or needed.host <= self.host:
            return MemoryNeed(needed.device, self.device, "gpu")
        return MemoryNeed(needed.host, self.host, "host")


@dataclass(frozen=True)
class Processor:
    """The properties of a device that decide how it trains."""

    gpu: bool
    autocast: bool
    """Matrix products run in bf16."""
    four_bit: bool
    """bitsandbytes, which 4-bit weights need, is installed."""


@dataclass(frozen=True)
class Fit(Reason):
    """How to train: the first choice that fits, and the memory that it needs."""

    micro_batch: int
    """Samples per forward pass."""
    frozen: Precision | None
    """Precision of the frozen weights below an adapter; None where all parameters are trained."""
    checkpointing: bool
    """Activation checkpointing: blocks are recomputed in the backward pass."""
    memory: MemoryNeed


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
    """The first way to train that fits into `free_memory`, within `micro_batch` and `frozen`.

    Order: smaller micro-batches, then activation checkpointing, which leave the results the same; then
    fewer bits for the frozen weights. Raises TooLargeForMemory if nothing fits, UserError if `frozen` is
    not available.
    """
    precisions = _precisions(spec, shape, processor, frozen)

    def needed(setup: _Setup) -> Footprint:
        return footprint(
            shape,
            trainable_params,
            spec.train.target,
            spec.train.method,
            tokens=setup.micro_batch * spec.data.sequence_length,
            frozen=setup.frozen,
            checkpointing=setup.checkpointing,
            autocast=processor.autocast,
        )

    sizes = _sizes(spec, processor, micro_batch)
    for setup in _setups(precisions, sizes, can_checkpoint=shape.blocks > 0):
        if free_memory.holds(needed(setup)):
            bits = None if isinstance(spec.train.target, Full) else setup.frozen
            return Fit(setup.micro_batch, bits, setup.checkpointing, free_memory.tightest(needed(setup)))
    smallest = _Setup(precisions[-1], shape.blocks > 0, sizes[-1])
    smaller = [_Setup(bits, shape.blocks > 0, 1) for bits in _lower(spec, precisions[-1])]
    helps = next((setup for setup in smaller if free_memory.holds(needed(setup))), None)
    raise TooLargeForMemory(
        f"training this model takes about {free_memory.tightest(needed(smallest))}",
        fix=_remedy(helps, sizes[-1], processor),
    )


@dataclass(frozen=True)
class _Setup:
    frozen: Precision
    checkpointing: bool
    micro_batch: int


def _setups(precisions: list[Precision], sizes: list[int], *, can_checkpoint: bool) -> Iterator[_Setup]:
    """In order of preference."""
    for precision in precisions:
        for checkpointing in (False, True) if can_checkpoint else (False,):
            for size in sizes:
                yield _Setup(precision, checkpointing, size)


def _precisions(
    spec: RunSpec, shape: ModelShape, processor: Processor, frozen: FrozenPrecision
) -> list[Precision]:
    """The precisions to try, the most exact one first."""
    if isinstance(spec.train.target, Full):
        if frozen not in ("auto", "fp32"):
            raise UserError(
                f"this run trains all parameters, so none can be frozen in {frozen}",
                fix="Leave `--frozen` out, or join a run that trains an adapter.",
            )
        return ["fp32"]
    if frozen == "4bit" and not processor.four_bit:
        raise bitsandbytes_missing()
    if frozen != "auto":
        return [frozen]
    # Where products run in bf16, or the files are in bf16, bf16 gives the same results in half the memory.
    first: list[Precision] = ["bf16"] if processor.autocast or shape.half else ["fp32", "bf16"]
    last: list[Precision] = ["4bit"] if processor.four_bit else []
    return [*first, "8bit", *last]


def bitsandbytes_missing() -> UserError:
    return UserError(
        "4-bit weights need bitsandbytes, which is not installed",
        fix=f"Run `{INSTALL_QUANTIZED}` in Barnraise's checkout.",
    )


def _sizes(spec: RunSpec, processor: Processor, micro_batch: int | None) -> list[int]:
    """Micro-batches to try, the largest first: on a GPU the powers of two up to the batch."""
    if micro_batch is not None:
        return [micro_batch]
    if not processor.gpu:
        return [MICRO_BATCH_CPU]
    return [2**power for power in reversed(range(spec.train.batch.bit_length()))]


def _lower(spec: RunSpec, precision: Precision) -> list[Precision]:
    """`precision` and those with fewer bits."""
    order: list[Precision] = ["fp32", "bf16", "8bit", "4bit"]
    return [precision] if isinstance(spec.train.target, Full) else order[order.index(precision) :]


def _remedy(helps: _Setup | None, smallest: int, processor: Processor) -> str:
    """helps: a setup that fits, outside the options given. smallest: the smallest micro-batch tried."""
    if helps is None:
        return _OTHER_REMEDIES
    if helps.frozen == "4bit" and not processor.four_bit:
        return f"4-bit weights would fit: `{INSTALL_QUANTIZED}` in Barnraise's checkout. {_OTHER_REMEDIES}"
    options = [f"--frozen {helps.frozen}"] + ["--micro-batch 1"] * (smallest > 1)
    return f"`{' '.join(options)}` would fit. {_OTHER_REMEDIES}"
