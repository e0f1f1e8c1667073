"""The outer optimizers against torch's."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pytest
import torch

from barnraise.contract.spec import AdamW, Sgd
from barnraise.contract.state import Array
from barnraise.fold.outer import outer_for

STEPS, SIZE = 12, 500
Make = Callable[[Iterable[torch.nn.Parameter]], torch.optim.Optimizer]

CASES: dict[str, tuple[Sgd | AdamW, Make]] = {
    "mean": (Sgd(), lambda p: torch.optim.SGD(p, lr=1.0)),
    "sgd": (Sgd(lr=0.3), lambda p: torch.optim.SGD(p, lr=0.3)),
    "momentum": (Sgd(lr=0.1, momentum=0.9), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)),
    "nesterov": (
        Sgd(lr=0.7, momentum=0.9, nesterov=True),
        lambda p: torch.optim.SGD(p, lr=0.7, momentum=0.9, nesterov=True),
    ),
    "adamw": (AdamW(lr=1e-2), lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0)),
    "decay": (
        AdamW(lr=3e-3, beta1=0.8, beta2=0.95, eps=1e-6, weight_decay=0.1),
        lambda p: torch.optim.AdamW(p, lr=3e-3, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1),
    ),
}


def ours(spec: Sgd | AdamW, params: Array, updates: list[Array]) -> Array:
    params = params.copy()
    buffers: dict[str, Array] = {}
    for number, update in enumerate(updates):
        outer = outer_for(spec, number)
        buffers = buffers or {name: np.zeros(SIZE, np.float32) for name in outer.buffer_names}
        outer.step(params, update.copy(), buffers)
    return params


def theirs(make: Make, params: Array, updates: list[Array]) -> Array:
    parameter = torch.nn.Parameter(torch.tensor(params))
    optimizer = make([parameter])
    for update in updates:
        parameter.grad = torch.tensor(update)
        optimizer.step()
    result: Array = parameter.detach().numpy()
    return result


@pytest.mark.parametrize("name", CASES)
def test_steps_equal_those_of_torch(name: str) -> None:
    spec, make = CASES[name]
    random = np.random.default_rng(0)
    params = random.standard_normal(SIZE).astype(np.float32)
    updates = [random.standard_normal(SIZE).astype(np.float32) for _ in range(STEPS)]
    moved = ours(spec, params, updates)
    np.testing.assert_allclose(moved, theirs(make, params, updates), rtol=2e-5, atol=2e-6)
    assert np.abs(moved - params).max() > 1e-2


@pytest.mark.parametrize(
    ("spec", "names"),
    [(Sgd(), ()), (Sgd(momentum=0.5), ("momentum",)), (AdamW(), ("m", "v"))],
    ids=["sgd", "momentum", "adamw"],
)
def test_buffers_are_kept_only_where_they_are_used(spec: Sgd | AdamW, names: tuple[str, ...]) -> None:
    assert outer_for(spec, 0).buffer_names == names


def test_learning_rate_one_without_momentum_steps_by_the_mean() -> None:
    params, target = np.arange(8, dtype=np.float32), np.full(8, 3, np.float32)
    outer_for(Sgd(), 0).step(params, params - target, {})
    np.testing.assert_array_equal(params, target)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("factor", [1.0, 1 / 3, 0.7])
def test_a_factor_is_one_of_the_learning_rate(name: str, factor: float) -> None:
    spec, _ = CASES[name]
    scaled = spec.model_copy(update={"lr": spec.lr * factor})
    random = np.random.default_rng(1)
    start, *updates = (random.standard_normal(SIZE).astype(np.float32) for _ in range(4))
    found, expected = start.copy(), start.copy()
    for steps in range(3):
        ones = [{kind: np.ones(SIZE, np.float32) for kind in outer_for(spec, 0).buffer_names} for _ in "ab"]
        outer_for(spec, steps, factor).step(found, updates[steps].copy(), ones[0])
        outer_for(scaled, steps).step(expected, updates[steps].copy(), ones[1])
    np.testing.assert_array_equal(found, expected)
    assert (found != start).any()


def test_adamw_late_in_a_run_has_no_bias_to_correct() -> None:
    """After many steps 1 − β^t is 1: a first step with full buffers moves by lr."""
    params = np.zeros(4, np.float32)
    one = np.ones(4, np.float32)
    outer_for(AdamW(lr=0.5), 10**6).step(params, one, {"m": one.copy(), "v": one.copy()})
    np.testing.assert_allclose(params, -0.5, rtol=1e-6)
