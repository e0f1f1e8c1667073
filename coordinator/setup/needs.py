"""What a run needs of its machines, connections and disks: pure arithmetic."""

from __future__ import annotations

from barnraise.contract.spec import Full, Lora, RunSpec
from barnraise.contract.state import Layout
from barnraise.fold.codec import typical_blob
from barnraise.fold.outer import outer_for
from barnraise.models.memory_estimate import Footprint, ModelShape, Precision, footprint
from coordinator.reasons.estimates import MemoryAt, Needs
from coordinator.reasons.setup import PERMANENT_CHECKPOINTS
from coordinator.setup.recommend import contributions

_FP32 = 4
"""Bytes of a value."""
_COORDINATOR_RUNTIME = 500_000_000
"""Bytes in addition to states and blobs: measured 0.44 GB with the libraries loaded and a tiny model."""
_CLOSE_ENTRY = 1_000
"""Bytes of a close for each contribution that it lists: measured 923, and 336 once."""
_MERGED = 2.0
"""Bytes of a parameter in bf16."""
_GGUF = {"f16": 2.0, "q8_0": 34 / 32}
"""Bytes of a parameter: Q8_0 adds a scale of 2 bytes to 32 values of one."""


def needs(spec: RunSpec, shape: ModelShape, tensors: Layout, peers: int) -> Needs:
    """shape: of the base model. tensors: the layout of the trainable tensors. peers: volunteers to plan
    for, at least 1.
    """
    trainable = tensors.parameters
    state = _FP32 * trainable * (1 + len(outer_for(spec.outer, 0).buffer_names))
    blob, count = typical_blob(spec.codec, tensors), contributions(spec, peers)
    log_per_round = count * (blob + _CLOSE_ENTRY)
    # Contributions after the newest checkpoint are kept above the limit too: a restart folds them.
    log_kept = max(int(spec.checkpoint.log_gigabytes * 1e9), spec.checkpoint.every * log_per_round)
    forms, kept = _forms(spec, shape.parameters), _checkpoints(spec)
    return Needs(
        base_params=shape.parameters,
        trainable_params=trainable,
        memory=memory_by_precision(spec, shape, trainable),
        # A fold holds the state before and after it, and the round's blobs.
        coordinator_memory=_COORDINATOR_RUNTIME + 2 * state + count * blob,
        blob=blob,
        up=count * blob,
        down=min(peers - 1, count) * blob,
        checkpoint=state,
        forms=forms,
        log_per_round=log_per_round,
        log=log_kept,
        checkpoints=kept,
        disk=kept * (state + forms) + log_kept,
    )


def memory_by_precision(spec: RunSpec, shape: ModelShape, trainable: int) -> tuple[MemoryAt, ...]:
    """A volunteer's memory at a micro-batch of one sample, for each precision that its frozen weights may
    have. trainable: values that are trained.
    """
    return tuple(_memory_at(spec, shape, trainable, frozen) for frozen in _precisions(spec))


def _memory_at(spec: RunSpec, shape: ModelShape, trainable: int, frozen: Precision) -> MemoryAt:
    def at(*, gpu: bool, checkpointing: bool) -> Footprint:
        return footprint(
            shape,
            trainable,
            spec.train.target,
            spec.train.method,
            tokens=spec.data.sequence_length,
            frozen=frozen,
            checkpointing=checkpointing and shape.blocks > 0,
            autocast=gpu,
        )

    laptop, gpu = at(gpu=False, checkpointing=False), at(gpu=True, checkpointing=False)
    return MemoryAt(
        precision=frozen,
        laptop=laptop.shared,
        laptop_checkpointing=at(gpu=False, checkpointing=True).shared,
        gpu=gpu.device,
        gpu_checkpointing=at(gpu=True, checkpointing=True).device,
        gpu_host=gpu.host,
    )


def _precisions(spec: RunSpec) -> tuple[Precision, ...]:
    """Where all parameters are trained, none is frozen: they are fp32."""
    return ("fp32",) if isinstance(spec.train.target, Full) else ("fp32", "bf16", "8bit", "4bit")


def _checkpoints(spec: RunSpec) -> int:
    """`main`, `best` and the one before `main` may be means, each with states of its own, of which one is
    counted already; another mean is made to be evaluated."""
    averaged = spec.checkpoint.averaged
    means = 3 * averaged + 1 if averaged else 0
    return spec.checkpoint.keep + PERMANENT_CHECKPOINTS + means


def _forms(spec: RunSpec, base_params: int) -> int:
    merged = spec.checkpoint.merged and isinstance(spec.train.target, Lora)
    gguf = spec.checkpoint.gguf
    return int(base_params * ((_MERGED if merged else 0) + (_GGUF[gguf] if gguf else 0)))
