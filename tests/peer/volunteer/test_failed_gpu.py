"""A GPU that fails while it trains leaves the training to the CPU."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from barnraise.core.errors import BarnraiseError, DeviceFailed, TooLargeForMemory
from peer.timing import TIMING
from peer.training.device import BrokenGpu, CpuChosen, CudaChosen, Device
from peer.volunteer import join as joining
from peer.volunteer import machine as machines
from peer.volunteer.machine import Machine
from tests.support import parts
from tests.support.devices import CPU

GPU = Device("H200", "cuda", True, 2, CudaChosen(True))
FAILED = DeviceFailed("cuda failed: unspecified launch failure", fix="Start again.")
TOO_LARGE = TooLargeForMemory("the memory of cuda is too small for a step", fix="Close other programs.")


@dataclass
class Runs:
    """Volunteers whose runs end with `ends`, one after another."""

    ends: list[BarnraiseError | None]
    machines: list[Machine] = field(default_factory=list)

    async def assembled(self, _: object, machine: Machine, *__: object) -> Any:
        self.machines.append(machine)

        async def run() -> None:
            if (error := self.ends.pop(0)) is not None:
                raise error

        return SimpleNamespace(run=run)


def devices(monkeypatch: pytest.MonkeyPatch, device: str, *ends: BarnraiseError | None) -> list[Device]:
    """The devices that a volunteer with `--device` trained on, from a GPU on."""
    runs = Runs(list(ends))
    monkeypatch.setattr(joining, "_volunteer", runs.assembled)
    monkeypatch.setattr(machines, "_fitted", lambda *_: cast(Any, None))
    monkeypatch.setattr(machines, "instead_of", instead_of)
    swarm = SimpleNamespace(traffic=SimpleNamespace(up=0, down=0))
    node = SimpleNamespace(identity=parts.ADA, timing=TIMING, charter=None, swarm=swarm)
    displays = SimpleNamespace(
        status=nullcontext(), render=lambda reason: type(reason).__name__, parting=lambda reason: str(reason)
    )
    settings = SimpleNamespace(public_name="ada", device=device, threads=1)
    machine = Machine(Path("base"), GPU, cast(Any, None))
    take_part = cast(Any, joining._take_part)

    async def work() -> None:
        await take_part(node, machine, Path("ada"), settings, displays, asyncio.Event())

    asyncio.run(work())
    return [machine.device for machine in runs.machines]


def instead_of(gpu: Device, problem: str, threads: int | None) -> Device:
    return replace(CPU, reason=CpuChosen(False, 1.0, False, BrokenGpu(gpu.name, problem)))


@pytest.mark.parametrize("error", [FAILED, TOO_LARGE])
def test_training_continues_on_the_cpu(monkeypatch: pytest.MonkeyPatch, error: BarnraiseError) -> None:
    gpu, cpu = devices(monkeypatch, "auto", error, None)
    assert gpu == GPU
    assert cpu.torch_device == "cpu"
    assert isinstance(cpu.reason, CpuChosen)
    assert cpu.reason.broken == BrokenGpu("H200", error.problem)


def test_a_gpu_that_was_asked_for_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeviceFailed):
        devices(monkeypatch, "cuda", FAILED)


def test_the_cpu_has_no_replacement(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TooLargeForMemory):
        devices(monkeypatch, "auto", FAILED, TOO_LARGE)
