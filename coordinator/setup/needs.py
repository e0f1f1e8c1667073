"""What a run needs of its machines, connections and disks: pure arithmetic."""

from __future__ import annotations

from barnraise.contract.spec import Lora, RunSpec
from barnraise.contract.state import Layout
from barnraise.fold.codec import typical_blob
from barnraise.fold.outer import outer_for
from barnraise.models.memory_estimate import MICRO_BATCH_CPU, MICRO_BATCH_GPU, memory_needed
from coordinator.reasons.setup import PERMANENT_CHECKPOINTS, Needs
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


def needs(spec: RunSpec, base_params: int, tensors: Layout, peers: int) -> Needs:
    """tensors: the layout of the trainable tensors. peers: volunteers to plan for, at least 1."""
    trainable = tensors.parameters
    state = _FP32 * trainable * (1 + len(outer_for(spec.outer, 0).buffer_names))
    blob, count = typical_blob(spec.codec, tensors), contributions(spec, peers)
    log_per_round = count * (blob + _CLOSE_ENTRY)
    # Contributions after the newest checkpoint are kept above the limit too: a restart folds them.
    log_kept = max(int(spec.checkpoint.log_gigabytes * 1e9), spec.checkpoint.every * log_per_round)
    forms = _forms(spec, base_params)

    def memory(samples: int) -> int:
        tokens = samples * spec.data.sequence_length
        return memory_needed(base_params, trainable, spec.train.target, spec.train.method, tokens=tokens)

    return Needs(
        base_params=base_params,
        trainable_params=trainable,
        peer_memory=memory(MICRO_BATCH_CPU),
        gpu_memory=memory(MICRO_BATCH_GPU),
        # A fold holds the state before and after it, and the round's blobs.
        coordinator_memory=_COORDINATOR_RUNTIME + 2 * state + count * blob,
        blob=blob,
        up=count * blob,
        down=min(peers - 1, count) * blob,
        checkpoint=state,
        forms=forms,
        log_per_round=log_per_round,
        log=log_kept,
        disk=(spec.checkpoint.keep + PERMANENT_CHECKPOINTS) * (state + forms) + log_kept,
    )


def _forms(spec: RunSpec, base_params: int) -> int:
    merged = spec.checkpoint.merged and isinstance(spec.train.target, Lora)
    gguf = spec.checkpoint.gguf
    return int(base_params * ((_MERGED if merged else 0) + (_GGUF[gguf] if gguf else 0)))
