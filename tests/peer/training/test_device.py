"""The device that a peer trains on."""

from __future__ import annotations

import pytest

from barnraise.core.errors import MachineError, UserError
from peer.training.device import BrokenGpu, CpuChosen, Probe, choose_device, compute_failure


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
