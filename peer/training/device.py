"""The device that a volunteer trains on, and its memory: how much is free, and when it runs out."""

from __future__ import annotations

import gc
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from barnraise.core.errors import DeviceFailed, MachineError, TooLargeForMemory, UserError
from barnraise.core.reason import Reason
from barnraise.models.memory_estimate import MICRO_BATCH_CPU, MICRO_BATCH_GPU, Precision
from barnraise.runtime.memory import available_memory
from peer.training.memory_fit import FreeMemory

_OUT_OF_MEMORY = (
    "can't allocate memory",  # the CPU's allocator
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "MPS backend out of memory",
)
"""Texts of the RuntimeErrors that torch raises instead of OutOfMemoryError."""
_CLEARLY_FASTER = 1.3
"""Speedup from which bf16 is used on a CPU: below it, the lost precision is not worth it."""


@dataclass(frozen=True)
class CudaChosen(Reason):
    """A CUDA GPU; in fp32 if it has no fast bf16."""

    bf16: bool


@dataclass(frozen=True)
class AppleGpuChosen(Reason):
    """An Apple GPU, in fp32."""


@dataclass(frozen=True)
class BrokenGpu(Reason):
    """A GPU that torch lists and that fails at a product of two matrices."""

    name: str
    error: str


@dataclass(frozen=True)
class CpuChosen(Reason):
    """The CPU; in bf16 if that is clearly faster than fp32."""

    bf16: bool
    speedup: float
    """fp32 time / bf16 time of a matrix product."""
    requested: bool
    """False: there is no GPU that works."""
    broken: BrokenGpu | None = None
    """The GPU that is listed and cannot compute; None where there is none."""


DeviceReason = CudaChosen | AppleGpuChosen | CpuChosen


@dataclass(frozen=True)
class Device:
    """A processor, the precision of its products, and why both were chosen."""

    name: str
    """For people, for example `NVIDIA H100` or `CPU`."""
    torch_device: str
    """torch's name: `cpu`, `mps`, `cuda`, `cuda:1`."""
    autocast: bool
    """Whether matrix products run in bf16."""
    threads: int
    """CPU threads for torch."""
    reason: DeviceReason
    """Why this device and this precision."""

    @property
    def micro_batch(self) -> int:
        """Samples per forward pass."""
        return MICRO_BATCH_CPU if self.torch_device == "cpu" else MICRO_BATCH_GPU

    @property
    def frozen(self) -> Precision:
        """Precision of an adapter's frozen weights that loses nothing: that of the products."""
        return "bf16" if self.autocast else "fp32"


@dataclass(frozen=True)
class Probe:
    """What a machine offers, as torch sees it."""

    cuda: tuple[str, ...]
    """Names of the CUDA devices."""
    cuda_bf16: bool
    mps: bool
    threads: int
    cpu_bf16_speedup: Callable[[], float]
    """fp32 time / bf16 time of a matrix product; called only if the CPU is chosen."""
    failure: Callable[[str], str]
    """Why a torch device cannot compute, called only if it is chosen; empty where it can."""


def pick_device(requested: str = "auto", threads: int | None = None) -> Device:
    """The device for `requested`: `auto`, `cpu`, `mps`, `cuda` or `cuda:N`. Raises as `choose_device`."""
    cuda = torch.cuda.is_available()
    probe = Probe(
        cuda=tuple(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())) if cuda else (),
        cuda_bf16=cuda and torch.cuda.is_bf16_supported(including_emulation=False),
        mps=torch.backends.mps.is_available(),
        threads=threads or torch.get_num_threads(),
        cpu_bf16_speedup=cpu_bf16_speedup,
        failure=compute_failure,
    )
    return choose_device(requested, probe)


def choose_device(requested: str, probe: Probe) -> Device:
    """The device for `requested` on the machine of `probe`. A GPU that cannot compute leaves `auto` the CPU.

    Raises UserError if it has no such device, MachineError if the requested one cannot compute.
    """
    _check_request(requested, probe)
    gpu = _gpu(requested, probe)
    if gpu is None:
        return _cpu(probe, requested == "cpu")
    if not (error := probe.failure(gpu.torch_device)):
        return gpu
    if requested == "auto":
        return _cpu(probe, False, BrokenGpu(gpu.name, error))
    raise MachineError(
        f"{gpu.name} ({requested}) is listed and cannot compute: {error}",
        fix="Check its driver and the version of torch, or train on the CPU with --device cpu.",
    )


def _check_request(requested: str, probe: Probe) -> None:
    """Raises UserError where the machine has no such device."""
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


def _gpu(requested: str, probe: Probe) -> Device | None:
    index = int(requested.partition(":")[2] or 0)
    if requested.startswith("cuda") or (requested == "auto" and probe.cuda):
        name = "cuda" if requested == "auto" else requested
        bf16 = probe.cuda_bf16
        return Device(probe.cuda[index], name, bf16, probe.threads, CudaChosen(bf16))
    if requested == "mps" or (requested == "auto" and probe.mps):
        return Device("Apple GPU", "mps", False, probe.threads, AppleGpuChosen())
    return None


def _cpu(probe: Probe, requested: bool, broken: BrokenGpu | None = None) -> Device:
    speedup = probe.cpu_bf16_speedup()
    faster = speedup >= _CLEARLY_FASTER
    return Device("CPU", "cpu", faster, probe.threads, CpuChosen(faster, speedup, requested, broken))


def instead_of(gpu: Device, problem: str, threads: int | None = None) -> Device:
    """The CPU, in place of a GPU that failed."""
    cpu = pick_device("cpu", threads)
    assert isinstance(cpu.reason, CpuChosen)
    reason = replace(cpu.reason, requested=False, broken=BrokenGpu(gpu.name, problem))
    return replace(cpu, reason=reason)


def compute_failure(torch_device: str) -> str:
    """Why a device cannot compute a product and its gradient; empty where it can."""
    try:
        matrix = torch.ones(64, 64, device=torch_device, requires_grad=True)
        product = (matrix @ matrix).sum()
        product.backward()
        return "" if float(product.detach()) == 64.0**3 else f"64 x 64 x 64 ones sum up to {float(product)}"
    except (RuntimeError, OSError) as error:
        return _first_line(error)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__


def cpu_bf16_speedup(size: int = 512, repetitions: int = 5) -> float:
    """fp32 time / bf16 time of a [size, size] product, each the best of `repetitions`; takes about 0.1 s."""
    best = {}
    for dtype in (torch.float32, torch.bfloat16):
        matrix = torch.ones(size, size, dtype=dtype)
        times = []
        for _ in range(repetitions + 1):  # the first one is a warm-up
            start = time.perf_counter()
            torch.mm(matrix, matrix)
            times.append(time.perf_counter() - start)
        best[dtype] = min(times[1:])
    return best[torch.float32] / best[torch.bfloat16]


def free_memory(device: Device) -> FreeMemory:
    """The memory that is free for training on `device`."""
    host = available_memory()
    if device.torch_device.startswith("cuda"):
        return FreeMemory(
            int(torch.cuda.mem_get_info(torch.device(device.torch_device))[0]), host, shared=False
        )
    return FreeMemory(host, host, shared=True)


@contextmanager
def memory_limit(device: torch.device, doing: str) -> Iterator[None]:
    """Turn errors that say that `device` is out of memory into TooLargeForMemory."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise too_large(device, doing) from error


@contextmanager
def device_failures(device: torch.device) -> Iterator[None]:
    """Turn what a GPU's driver or library raises into DeviceFailed.

    After an error of CUDA the process cannot use the GPU any more.
    """
    try:
        yield
    except RuntimeError as error:
        if device.type == "cpu":
            raise
        raise DeviceFailed(
            f"{device} failed: {_first_line(error)}",
            fix="Start again. If this repeats, check the GPU's driver, or train with --device cpu.",
        ) from error


def too_large(device: torch.device, doing: str) -> TooLargeForMemory:
    return TooLargeForMemory(
        f"the memory of {device} is too small for {doing}",
        fix="Close other programs that use it, use another device, or join a run that trains an adapter "
        "or a smaller model.",
    )


def out_of_memory(error: Exception) -> bool:
    """Whether `error` says that a device or the machine is out of memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _OUT_OF_MEMORY)


def release_memory(device: torch.device) -> None:
    """Free what a failed attempt left, and torch's cache of it."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
