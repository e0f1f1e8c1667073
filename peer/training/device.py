"""Which processor a volunteer trains on, and how its memory is asked for and ends."""

from __future__ import annotations

import gc
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import torch

from barnraise.core.errors import TooLargeForMemory, UserError
from barnraise.models.memory_estimate import MICRO_BATCH_CPU, MICRO_BATCH_GPU, Precision
from peer.training.memory_fit import FreeMemory

_OUT_OF_MEMORY = (
    "can't allocate memory",  # the CPU's allocator
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "MPS backend out of memory",
)
"""How torch's RuntimeErrors tell it, where it raises no OutOfMemoryError."""
_CLEARLY_FASTER = 1.3
"""bf16 has to beat fp32 on a CPU by this much: below it, the lost precision is not worth it."""


@dataclass(frozen=True)
class Device:
    name: str
    """What a person calls it, for example `NVIDIA H100` or `CPU`."""
    torch_device: str
    """What torch calls it: `cpu`, `mps`, `cuda`, `cuda:1`."""
    autocast: bool
    """Whether matrix products run in bf16."""
    threads: int
    """CPU threads for torch."""
    reason: str
    """Why this device and this precision, in a few words."""

    @property
    def micro_batch(self) -> int:
        """Samples that go through the model at once."""
        return MICRO_BATCH_CPU if self.torch_device == "cpu" else MICRO_BATCH_GPU

    @property
    def frozen(self) -> Precision:
        """How an adapter's frozen weights are kept without loss: as they are multiplied."""
        return "bf16" if self.autocast else "fp32"


@dataclass(frozen=True)
class Probe:
    """What a machine offers."""

    cuda: tuple[str, ...]
    """Names of the CUDA devices."""
    cuda_bf16: bool
    mps: bool
    threads: int
    cpu_bf16_speedup: Callable[[], float]
    """fp32 time / bf16 time of a matrix product; called only where the CPU is chosen."""


def pick_device(requested: str = "auto", threads: int | None = None) -> Device:
    """The device for `requested`: `auto`, `cpu`, `mps`, `cuda` or `cuda:N`. Raises UserError."""
    cuda = torch.cuda.is_available()
    probe = Probe(
        cuda=tuple(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())) if cuda else (),
        cuda_bf16=cuda and torch.cuda.is_bf16_supported(including_emulation=False),
        mps=torch.backends.mps.is_available(),
        threads=threads or torch.get_num_threads(),
        cpu_bf16_speedup=cpu_bf16_speedup,
    )
    return choose_device(requested, probe)


def choose_device(requested: str, probe: Probe) -> Device:
    """The device for `requested` on a machine like `probe`. Raises UserError where it has no such device."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", requested):
        raise UserError(f"there is no device `{requested}`", fix="Choose auto, cpu, mps, cuda or cuda:N.")
    index = int(requested.partition(":")[2] or 0)
    if requested.startswith("cuda") and index >= len(probe.cuda):
        raise UserError(
            f"torch sees {len(probe.cuda)} CUDA devices, so there is no `{requested}`",
            fix="Install torch with CUDA and the GPU's driver, or choose another device.",
        )
    if requested == "mps" and not probe.mps:
        raise UserError("torch sees no Apple GPU (mps) here", fix="Choose auto or cpu.")
    if requested.startswith("cuda") or (requested == "auto" and probe.cuda):
        precision = "bf16" if probe.cuda_bf16 else "fp32, since it has no fast bf16"
        name = "cuda" if requested == "auto" else requested
        return Device(probe.cuda[index], name, probe.cuda_bf16, probe.threads, f"a CUDA GPU, {precision}")
    if requested == "mps" or (requested == "auto" and probe.mps):
        return Device("Apple GPU", "mps", False, probe.threads, "an Apple GPU, fp32")
    speedup = probe.cpu_bf16_speedup()
    faster = speedup >= _CLEARLY_FASTER
    why = "" if requested == "cpu" else "no GPU; "
    precision = "bf16" if faster else "fp32"
    reason = f"{why}{precision}, as bf16 runs at {speedup:.1f}x here"
    return Device("CPU", "cpu", faster, probe.threads, reason)


def cpu_bf16_speedup(size: int = 512, repetitions: int = 5) -> float:
    """fp32 time / bf16 time of a [size, size] product, each the best of `repetitions`; about 0.1 s."""
    best = {}
    for dtype in (torch.float32, torch.bfloat16):
        matrix = torch.ones(size, size, dtype=dtype)
        times = []
        for _ in range(repetitions + 1):  # the first one warms up
            start = time.perf_counter()
            torch.mm(matrix, matrix)
            times.append(time.perf_counter() - start)
        best[dtype] = min(times[1:])
    return best[torch.float32] / best[torch.bfloat16]


def free_memory(device: Device) -> FreeMemory:
    """The memory that is free for training on `device`."""
    host = int(psutil.virtual_memory().available)
    if device.torch_device.startswith("cuda"):
        return FreeMemory(
            int(torch.cuda.mem_get_info(torch.device(device.torch_device))[0]), host, shared=False
        )
    return FreeMemory(host, host, shared=True)


@contextmanager
def memory_limit(device: torch.device, doing: str) -> Iterator[None]:
    """Turn the end of `device`'s memory into TooLargeForMemory."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise too_large(device, doing) from error


def too_large(device: torch.device, doing: str) -> TooLargeForMemory:
    return TooLargeForMemory(
        f"the memory of {device} is too small for {doing}",
        fix="Close other programs that use it, use another device, or join a run that trains an adapter "
        "or a smaller model.",
    )


def out_of_memory(error: Exception) -> bool:
    """Whether `error` says that memory ended, on whatever device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _OUT_OF_MEMORY)


def release_memory(device: torch.device) -> None:
    """Free what a failed attempt left, and what torch keeps of it."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
