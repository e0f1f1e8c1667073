"""The device that tests train on."""

from __future__ import annotations

from peer.training.device import CpuChosen, Device

CPU = Device("CPU", "cpu", False, 1, CpuChosen(bf16=False, speedup=1.0, requested=True))
BF16_CPU = Device("CPU", "cpu", True, 1, CpuChosen(bf16=True, speedup=1.0, requested=True))
