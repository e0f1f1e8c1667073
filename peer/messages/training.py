"""Messages about the device and the memory that a volunteer trains with."""

from __future__ import annotations

from typing_extensions import assert_never

from peer.training.device import AppleGpuChosen, CpuChosen, CudaChosen, DeviceReason
from peer.training.memory_fit import Fit


def training_message(reason: DeviceReason | Fit) -> str:
    """Why this device and precision, or how training fits into its memory."""
    return _fit(reason) if isinstance(reason, Fit) else _device(reason)


def _device(reason: DeviceReason) -> str:
    match reason:
        case CudaChosen(bf16):
            return f"a CUDA GPU, {'bf16' if bf16 else 'fp32, since it has no fast bf16'}"
        case AppleGpuChosen():
            return "an Apple GPU, fp32"
        case CpuChosen(bf16, speedup, requested, broken):
            no_gpu = "" if requested else "no GPU; "
            if broken is not None:
                no_gpu = f"{broken.name} is listed and cannot compute ({broken.error}); "
            precision = "bf16" if bf16 else "fp32"
            return f"{no_gpu}{precision}, as bf16 runs at {speedup:.1f}x the speed of fp32 here"
        case _:
            assert_never(reason)


def _fit(fit: Fit) -> str:
    samples = "1 sample" if fit.micro_batch == 1 else f"{fit.micro_batch} samples"
    frozen = "" if fit.frozen is None else f", the frozen weights in {fit.frozen}"
    checkpointing = ", activation checkpointing to save memory" if fit.checkpointing else ""
    return f"{samples} at once{frozen}{checkpointing}: about {fit.memory}"
