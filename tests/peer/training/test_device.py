"""The device that a peer trains on."""

from __future__ import annotations

import pytest

from barnraise.core.errors import UserError
from peer.training.device import Probe, choose_device


def test_the_cpu_takes_bf16_only_when_clearly_faster() -> None:
    def probe(speedup: float) -> Probe:
        return Probe((), False, False, 4, lambda: speedup)

    assert not choose_device("auto", probe(1.2)).autocast
    assert choose_device("auto", probe(2.5)).autocast
    assert choose_device("cpu", probe(2.5)).threads == 4


def test_a_gpu_is_preferred_and_named() -> None:
    probe = Probe(("A", "B"), True, False, 4, lambda: pytest.fail("no need to time the CPU"))
    assert choose_device("auto", probe).torch_device == "cuda"
    assert choose_device("cuda:1", probe).name == "B"
    assert choose_device("auto", Probe((), False, True, 4, lambda: 1.0)).torch_device == "mps"


@pytest.mark.parametrize("requested", ["cuda:2", "mps", "tpu", "cuda:x"])
def test_a_missing_device_is_an_error(requested: str) -> None:
    with pytest.raises(UserError):
        choose_device(requested, Probe(("A", "B"), True, False, 4, lambda: 1.0))
