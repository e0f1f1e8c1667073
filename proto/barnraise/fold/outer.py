"""Outer optimizers: the step that a fold takes along the aggregated update.

Every operation is one elementwise fp32 numpy call, so one IEEE rounding each. Scalars are
computed in double by multiplications alone (never `pow`, whose last bit differs between C
libraries) and rounded to fp32 once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from barnraise.contract.spec import AdamW, Sgd
from barnraise.contract.state import Array

Buffers = Mapping[str, Array]


class Outer(Protocol):
    """An outer optimizer at one step."""

    @property
    def buffer_names(self) -> tuple[str, ...]:
        """Keys of the buffers that `step` needs."""
        ...

    def step(self, params: Array, update: Array, buffers: Buffers) -> None:
        """Move `params` against `update` in place, and `buffers` with it. All are [n], fp32."""
        ...


def outer_for(spec: Sgd | AdamW, steps_before: int, factor: float = 1.0) -> Outer:
    """The outer optimizer of a run at step `steps_before` + 1. factor: of its learning rate, from 0 to 1."""
    match spec:
        case Sgd():
            return _SgdStep(spec, spec.lr * factor)
        case AdamW():
            return _adamw_step(spec, spec.lr * factor, steps_before + 1)


class _SgdStep:
    """SGD, heavy-ball or Nesterov momentum as in torch.optim.SGD (Sutskever et al. 2013)."""

    def __init__(self, spec: Sgd, lr: float) -> None:
        self._lr = np.float32(lr)
        self._momentum = np.float32(spec.momentum)
        self._nesterov = spec.nesterov
        self.buffer_names = ("momentum",) if spec.momentum else ()

    def step(self, params: Array, update: Array, buffers: Buffers) -> None:
        direction = update
        if self.buffer_names:
            velocity = buffers["momentum"]
            np.multiply(velocity, self._momentum, out=velocity)
            np.add(velocity, update, out=velocity)
            direction = velocity
            if self._nesterov:
                direction = np.multiply(velocity, self._momentum)
                np.add(direction, update, out=direction)
        np.subtract(params, direction * self._lr, out=params)


@dataclass(frozen=True)
class _AdamWStep:
    """AdamW (Loshchilov & Hutter 2019, algorithm 2), with torch.optim.AdamW's order of operations."""

    beta1: np.float32
    beta2: np.float32
    one_minus_beta1: np.float32
    one_minus_beta2: np.float32
    step_size: np.float32
    """lr / (1 − β1^t)"""
    root_correction: np.float32
    """√(1 − β2^t)"""
    eps: np.float32
    decay: np.float32
    """1 − lr · weight_decay"""
    buffer_names: tuple[str, ...] = ("m", "v")

    def step(self, params: Array, update: Array, buffers: Buffers) -> None:
        m, v = buffers["m"], buffers["v"]
        np.multiply(params, self.decay, out=params)
        np.multiply(m, self.beta1, out=m)
        np.add(m, update * self.one_minus_beta1, out=m)
        np.multiply(v, self.beta2, out=v)
        square = np.multiply(update, update)
        np.multiply(square, self.one_minus_beta2, out=square)
        np.add(v, square, out=v)
        denominator = np.sqrt(v)
        np.divide(denominator, self.root_correction, out=denominator)
        np.add(denominator, self.eps, out=denominator)
        change = np.divide(m, denominator)
        np.multiply(change, self.step_size, out=change)
        np.subtract(params, change, out=params)


def _adamw_step(spec: AdamW, lr: float, step: int) -> _AdamWStep:
    return _AdamWStep(
        beta1=np.float32(spec.beta1),
        beta2=np.float32(spec.beta2),
        one_minus_beta1=np.float32(1 - spec.beta1),
        one_minus_beta2=np.float32(1 - spec.beta2),
        step_size=np.float32(lr / (1 - _power(spec.beta1, step))),
        root_correction=np.float32(math.sqrt(1 - _power(spec.beta2, step))),
        eps=np.float32(spec.eps),
        decay=np.float32(1 - lr * spec.weight_decay),
    )


def _power(base: float, exponent: int) -> float:
    result = 1.0
    while exponent:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result
