"""The inner optimizer: AdamW, or Muon for the matrices inside the blocks and AdamW for the rest.

Muon steps by the orthogonalized mean of the gradients (Jordan et al. 2024, "Muon: An optimizer for hidden
layers"). The updates of many replicas agree better, so that averaging loses less (Thérien et al. 2025,
"MuLoCo"). Its steps are scaled to AdamW's size, so that one learning rate fits both (Liu et al. 2025, "Muon
is Scalable for LLM Training", section 2.2).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from barnraise.contract.spec import InnerSpec
from barnraise.contract.state import Array
from barnraise.core.errors import StateError
from peer.training.local_model import LocalModel
from peer.training.muon import CpuMuon

OptimizerState = Mapping[str, npt.NDArray[Any]]
"""An inner optimizer's state as plain arrays, for a safetensors file."""

STEPS = "steps"
_ADAMW, _MUON = ("exp_avg", "exp_avg_sq"), ("momentum_buffer",)
"""The state of each optimizer per tensor, by torch's names."""


class InnerOptimizer:
    """Updates a model's parameters by their gradients."""

    def __init__(self, model: LocalModel, inner: InnerSpec) -> None:
        self._inner, self._params, self._layout = inner, model.params, model.layout
        self._steps = 0
        matrices = model.matrices if inner.optimizer == "muon" else frozenset()
        self._kinds = {name: _MUON if name in matrices else _ADAMW for name in self._params}
        self._by_kind: dict[tuple[str, ...], torch.optim.Optimizer] = {}
        if muon := self._of_kind(_MUON):
            self._by_kind[_MUON] = _muon(muon, inner, model.device)
        if adamw := self._of_kind(_ADAMW):
            self._by_kind[_ADAMW] = torch.optim.AdamW(
                adamw,
                lr=inner.lr,
                betas=(inner.beta1, inner.beta2),
                eps=inner.eps,
                weight_decay=inner.weight_decay,
            )

    def step(self, factor: float = 1.0) -> None:
        """factor: of the learning rate, by the run's schedule."""
        self._steps += 1
        rate = self._inner.lr * factor * min(1.0, self._steps / max(1, self._inner.warmup_steps))
        for optimizer in self._by_kind.values():
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()

    def export(self) -> dict[str, npt.NDArray[Any]]:
        """`steps` (int64 [1]) and, after the first step, KIND/NAME of each tensor (fp32).

        On a CPU these are the optimizer's own arrays: save them before the next step.
        """
        saved: dict[str, npt.NDArray[Any]] = {STEPS: np.array([self._steps], np.int64)}
        for name, kind, state in self._states():
            if kind in state:
                saved[f"{kind}/{name}"] = _shared(state[kind])
        return saved

    def restore(self, saved: OptimizerState) -> None:
        """Restore an exported state. Raises StateError if it is not of this model and optimizer."""
        steps = int(saved[STEPS][0]) if STEPS in saved and saved[STEPS].size == 1 else 0
        shapes = dict(self._layout)
        expected = {f"{kind}/{name}": shapes[name] for name, kind, _ in self._states() if steps}
        found = {name: tuple(array.shape) for name, array in saved.items() if name != STEPS}
        if found != expected or STEPS not in saved or steps < 0:
            raise StateError(
                "the saved inner optimizer does not belong to this run's model",
                fix="Remove it; the optimizer then starts from zero, which costs a few steps.",
            )
        self._steps = steps
        for name, parameter in self._params.items():
            kinds = self._kinds[name]
            state = self._by_kind[kinds].state
            state.pop(parameter, None)
            if steps:
                kept = {k: torch.tensor(saved[f"{k}/{name}"], device=parameter.device) for k in kinds}
                state[parameter] = kept | {"step": torch.tensor(float(steps))}

    def _of_kind(self, kinds: tuple[str, ...]) -> list[torch.nn.Parameter]:
        return [parameter for name, parameter in self._params.items() if self._kinds[name] == kinds]

    def _states(self) -> Iterator[tuple[str, str, Mapping[str, torch.Tensor]]]:
        """Tensor, kind, and its optimizer's state, which is empty before the first step."""
        for name, parameter in self._params.items():
            state = self._by_kind[self._kinds[name]].state.get(parameter, {})
            for kind in self._kinds[name]:
                yield name, kind, state


def _muon(
    matrices: list[torch.nn.Parameter], inner: InnerSpec, device: torch.device
) -> torch.optim.Optimizer:
    lr, momentum, decay = inner.lr, inner.momentum, inner.weight_decay
    if device.type == "cpu":
        return CpuMuon(matrices, lr=lr, momentum=momentum, weight_decay=decay)
    return torch.optim.Muon(
        matrices, lr=lr, momentum=momentum, weight_decay=decay, adjust_lr_fn="match_rms_adamw"
    )


def _shared(tensor: torch.Tensor) -> Array:
    """`tensor` as an array, fp32; shares the memory of a tensor on the CPU."""
    array: Array = tensor.detach().to("cpu", torch.float32).numpy()
    return array
