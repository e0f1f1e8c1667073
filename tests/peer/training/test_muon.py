"""Muon on a CPU: what it makes of singular values, and which matrices a step moves."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from barnraise.models.muon_work import MOST_TURNS, operations, turns
from peer.training.muon import CpuMuon, orthogonalized

ATTENTION, NARROW, WIDE = (576, 576), (192, 576), (1536, 576)
SMOLLM2_135M = 30 * [ATTENTION, NARROW, NARROW, ATTENTION, WIDE, WIDE, WIDE[::-1]]
ADAPTERS = [pair for rows, inputs in SMOLLM2_135M for pair in ((16, inputs), (rows, 16))]


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def basis(seed: int, rows: int, columns: int) -> torch.Tensor:
    """Orthonormal columns."""
    return torch.linalg.qr(drawn(seed, rows, columns))[0]


@given(
    st.integers(0, 99), st.integers(1, 24), st.integers(0, 24), st.booleans(), st.floats(-2, 0),
    st.sampled_from([1e-6, 1.0, 1e15]),
)  # fmt: skip
def test_singular_vectors_stay_and_singular_values_become_one(
    seed: int, less: int, more: int, tall: bool, lowest: float, size: float
) -> None:
    left, right = basis(seed, less, less), basis(seed + 1, less + more, less)
    values = 10 ** torch.linspace(lowest, 0, less)
    values[-1] = 1
    matrix = size * (left * values) @ right.mT
    found = orthogonalized(matrix.mT if tall else matrix)
    found = left.mT @ (found.mT if tall else found) @ right
    bound = values.pow(4).sum() ** 0.25
    # 0.01 of the bound and more; below, in proportion at least
    wanted = (values / (0.01 * bound)).clamp(max=1)
    diagonal = found.diagonal()
    assert (diagonal > 0.93 * wanted).all()
    assert (diagonal < 1.07).all()
    assert (found - torch.diag(diagonal)).abs().max() < 1e-3


def test_no_gradient_is_no_direction() -> None:
    assert not orthogonalized(torch.zeros(3, 5)).any()


def steps(every: int | None, count: int, decay: float = 0.0) -> list[list[torch.Tensor]]:
    """Of six matrices, their values before the first step and after each; gradients are drawn."""
    matrices = [torch.nn.Parameter(drawn(place, 4, 6)) for place in range(6)]
    muon = CpuMuon(matrices, lr=0.01, momentum=0.9, weight_decay=decay, every=every)
    seen = [[matrix.detach().clone() for matrix in matrices]]
    for number in range(count):
        for place, matrix in enumerate(matrices):
            matrix.grad = drawn(100 * number + place, 4, 6)
        muon.step()
        seen.append([matrix.detach().clone() for matrix in matrices])
    return seen


@pytest.mark.parametrize("every", [1, 2, 3])
def test_each_matrix_moves_once_in_as_many_steps_and_that_many_times_as_far(every: int) -> None:
    seen = steps(every, 6)
    moved = [
        [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
        for before, after in pairwise(seen)
    ]
    assert [sum(step) for step in moved] == [6 // every] * 6
    for place in range(6):
        own = [step[place] for step in moved]
        assert sum(own[:every]) == 1
        length = float((seen[own.index(True) + 1][place] - seen[0][place]).norm())
        # 0.2 √6 by the four singular values, which are near 1
        assert length == pytest.approx(every * 0.01 * 0.2 * 6**0.5 * 2, rel=0.07)


def test_a_step_is_that_of_the_exact_factor() -> None:
    seen, step = steps(None, 3, decay=0.5), 0.01 * 0.2 * 6**0.5
    for place in range(6):
        wanted, mean = drawn(place, 4, 6), torch.zeros(4, 6)
        for number in range(3):
            gradient = drawn(100 * number + place, 4, 6)
            mean = 0.9 * mean + 0.1 * gradient
            left, _, right = torch.linalg.svd(0.1 * gradient + 0.9 * mean, full_matrices=False)
            wanted = (1 - 0.01 * 0.5) * wanted - step * left @ right
        assert float((seen[3][place] - wanted).norm()) < 0.07 * 3 * step * 2
        assert float((seen[3][place] - seen[0][place]).norm()) > step


def test_matrices_without_a_gradient_rest() -> None:
    matrices = [torch.nn.Parameter(drawn(place, 3, 4)) for place in range(2)]
    matrices[0].grad = drawn(5, 3, 4)
    CpuMuon(matrices, lr=0.1, momentum=0.9, weight_decay=0.1).step()
    assert not torch.equal(matrices[0], drawn(0, 3, 4))
    assert torch.equal(matrices[1], drawn(1, 3, 4))


def test_large_models_take_turns_and_adapters_do_not() -> None:
    assert operations([WIDE]) == operations([WIDE[::-1]]) == 4 * 576**2 * (576 + 1536)
    assert (turns(SMOLLM2_135M), turns(ADAPTERS), turns([])) == (3, 1, 1)
    assert turns([(4096, 4096)] * 200) == MOST_TURNS
