"""Muon on a CPU, in fp32, with few products, and for a large model only a share of the matrices in each step.

torch's own Muon takes fifteen products in bf16 for each matrix. Few CPUs multiply bf16 in hardware; on the
others these products are 10 to 100 times slower than those of fp32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch

from barnraise.models.muon_work import turns

_CONSTANT = 0.7621
_POLES = ((0.0275621, 0.00022695), (0.2846716, 0.03364974))
"""x · (_CONSTANT + Σ a / (x² + c)) is within 0.065 of 1 for x from 0.01 to 1: Zolotarev's best rational
approximation of type (5, 4) (Nakatsukasa & Freund 2016, equation 3.2). torch's Muon is within 0.3."""
_ADAMW_SIZE = 0.2
"""Root mean square of a step of rate 1, as AdamW's (Liu et al. 2025, 2.2)."""
_SMALLEST = 1e-12
"""Norm below which a gradient counts as none."""


class CpuMuon(torch.optim.Optimizer):
    """Jordan et al. 2024, "Muon", with Nesterov momentum; state and settings as those of torch.optim.Muon.

    With `every` > 1 a step moves one matrix in `every`, by the momentum that has gathered, `every` times the
    learning rate far.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        momentum: float,
        weight_decay: float,
        every: int | None = None,
    ) -> None:
        """params: matrices, or groups of them. every: None takes `turns` of their shapes."""
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        shapes = [tuple(matrix.shape) for group in self.param_groups for matrix in group["params"]]
        self._every = every or turns(shapes)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for place, (matrix, group) in enumerate(self._matrices()):
            if matrix.grad is None:
                continue
            state = self.state[matrix]
            if not state:
                state |= {"step": torch.tensor(0.0), "momentum_buffer": torch.zeros_like(matrix)}
            state["step"] += 1
            mean = state["momentum_buffer"].lerp_(matrix.grad, 1 - group["momentum"])
            if (int(state["step"]) + place) % self._every == 0:
                rate = self._every * group["lr"]
                update = orthogonalized(matrix.grad.lerp(mean, group["momentum"]))
                matrix.mul_(1 - rate * group["weight_decay"])
                matrix.add_(update, alpha=-rate * _ADAMW_SIZE * math.sqrt(max(matrix.shape)))

    def _matrices(self) -> Iterator[tuple[torch.nn.Parameter, dict[str, Any]]]:
        for group in self.param_groups:
            for matrix in group["params"]:
                yield matrix, group


def orthogonalized(matrix: torch.Tensor) -> torch.Tensor:
    """U · V of the singular value decomposition U · S · V of `matrix` [m, n], fp32: singular values from 1 to
    0.01 of an upper bound of the largest become 0.93 to 1.07, and smaller ones are enlarged."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.mT
    wide = wide / wide.norm().clamp_min(_SMALLEST)
    squares = wide @ wide.mT
    bound = squares.norm().clamp_min(_SMALLEST)  # of the largest eigenvalue
    squares /= bound
    factor = torch.zeros_like(squares)
    for numerator, pole in _POLES:
        shifted = squares.clone()
        shifted.diagonal().add_(pole)
        factor.add_(torch.cholesky_inverse(torch.linalg.cholesky(shifted)), alpha=numerator)
    factor.diagonal().add_(_CONSTANT)
    result = (factor / bound.sqrt()) @ wide
    return result if matrix.shape[0] <= matrix.shape[1] else result.mT
