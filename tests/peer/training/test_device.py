"""The device that a peer trains on."""

from __future__ import annotations

import pytest
import torch

from barnraise.core.errors import DeviceFailed, MachineError, TooLargeForMemory, UserError
from peer.training.device import (
    BrokenGpu,
    CpuChosen,
    CudaChosen,
    Device,
    Probe,
    choose_device,
    compute_failure,
    device_failures,
    instead_of,
    too_large,
)


def works(_: str) -> str:
    return ""


def test_the_cpu_takes_bf16_only_when_clearly_faster() -> None:
    def probe(speedup: float) -> Probe:
        return Probe((), False, False, 4, lambda: speedup, works)

    assert not choose_device("auto", probe(1.2)).autocast
    assert choose_device("auto", probe(2.5)).autocast
    assert choose_device("cpu", probe(2.5)).threads == 4


def test_a_gpu_is_preferred_and_named() -> None:
    probe = Probe(("A", "B"), True, False, 4, lambda: pytest.fail("no need to time the CPU"), works)
    assert choose_device("auto", probe).torch_device == "cuda"
    assert choose_device("cuda:1", probe).name == "B"
    assert choose_device("auto", Probe((), False, True, 4, lambda: 1.0, works)).torch_device == "mps"


@pytest.mark.parametrize("requested", ["cuda:2", "mps", "tpu", "cuda:x"])
def test_a_missing_device_is_an_error(requested: str) -> None:
    with pytest.raises(UserError):
        choose_device(requested, Probe(("A", "B"), True, False, 4, lambda: 1.0, works))


def test_a_gpu_that_cannot_compute_leaves_the_cpu_and_says_why() -> None:
    probe = Probe(("A",), True, False, 4, lambda: 1.0, lambda device: f"{device}: no kernel image")
    chosen = choose_device("auto", probe)
    assert (chosen.torch_device, chosen.reason) == (
        "cpu",
        CpuChosen(False, 1.0, False, BrokenGpu("A", "cuda: no kernel image")),
    )
    assert choose_device("cpu", probe).torch_device == "cpu"


@pytest.mark.parametrize("requested", ["cuda", "cuda:0"])
def test_a_requested_gpu_that_cannot_compute_is_an_error(requested: str) -> None:
    with pytest.raises(MachineError, match="no kernel image"):
        choose_device(requested, Probe(("A",), True, False, 4, lambda: 1.0, lambda _: "no kernel image"))


def test_a_device_is_tried_by_computing() -> None:
    assert compute_failure("cpu") == ""
    assert compute_failure("meta") != ""


GPU = torch.device("cuda")


def test_what_a_gpu_raises_says_that_it_failed() -> None:
    with pytest.raises(DeviceFailed) as caught, device_failures(GPU):
        raise RuntimeError("CUDA error: unspecified launch failure\nCompile with TORCH_USE_CUDA_DSA")
    assert "unspecified launch failure" in caught.value.problem
    assert "DSA" not in caught.value.problem


def test_faults_of_a_program_and_a_full_memory_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError), device_failures(torch.device("cpu")):
        raise RuntimeError("shapes do not match")
    with pytest.raises(TooLargeForMemory), device_failures(GPU):
        raise too_large(GPU, "a step")


def test_the_cpu_takes_the_place_of_a_gpu_that_failed_and_says_why() -> None:
    gpu = Device("H200", "cuda", True, 2, CudaChosen(True))
    cpu = instead_of(gpu, "it failed", threads=3)
    assert (cpu.torch_device, cpu.threads) == ("cpu", 3)
    assert isinstance(cpu.reason, CpuChosen)
    assert cpu.reason.broken == BrokenGpu("H200", "it failed")
