"""How long a run takes: the operations of a token, and how rounds end."""

from __future__ import annotations

from typing import Any

import pytest

from barnraise.contract.spec import DataSpec, Full, Lora, RoundSpec, RunSpec
from barnraise.models.memory_estimate import ModelShape
from coordinator.reasons.estimates import Pace
from coordinator.setup.pace import OPERATIONS_PER_SECOND, find_paces, operations_per_token
from tests.support.shapes import index_of

TIED = ModelShape(
    parameters=134_515_008,
    products=106_168_320,
    head=0,
    largest=884_736,
    vocabulary=49_152,
    width=576,
    blocks=30,
    half=True,
)
"""SmolLM2-135M."""


def laptops(peers: int = 1, exchange: float = 0, samples: int = 1000, **round: Any) -> Pace:
    spec = RunSpec(name="barn", data=DataSpec(source="x"), round=RoundSpec(**round))
    found = find_paces(spec, TIED, 2_000_000, index_of(samples, samples * 256), peers, exchange)
    assert [pace.machine for pace in found] == ["laptop", "GPU"]
    return found[0]


def test_a_token_takes_six_operations_a_trained_weight_and_four_a_frozen_one() -> None:
    assert operations_per_token(TIED, 134_515_008, Full()) == 6 * 134_515_008
    assert operations_per_token(TIED, 2_000_000, Lora()) == 4 * 134_515_008 + 6 * 2_000_000
    untied = ModelShape(150, 100, 20, 10, 20, 1, 2, half=False)
    assert operations_per_token(untied, 150, Full()) == 6 * 130, "looking up an embedding is free"


def test_an_epoch_is_every_sample_once() -> None:
    speed = OPERATIONS_PER_SECOND["laptop"] / operations_per_token(TIED, 2_000_000, Lora())
    one = laptops()
    assert one.step == pytest.approx(4 * 512 / speed)
    assert one.steps_an_epoch == 250
    assert one.epoch == pytest.approx(1000 * 512 / speed)
    assert one.rounds == -(-one.epoch // 300)
    assert one.tokens_a_day == pytest.approx(86_400 / one.epoch * 1000 * 256)
    assert laptops(peers=10).epoch == pytest.approx(one.epoch / 10)
    assert laptops(peers=10).steps_an_epoch == 25


def test_steps_and_tokens_end_a_round_early() -> None:
    by_time = laptops(seconds=1000)
    few, target = laptops(seconds=1000, steps=10), laptops(seconds=1000, target_tokens=20_480)
    assert few.round_epochs == pytest.approx(target.round_epochs) == pytest.approx(0.04)
    assert few.epoch == pytest.approx(by_time.epoch), "without an exchange, short rounds cost nothing"


@pytest.mark.parametrize(
    ("overlap", "exchange", "waits"),
    [("never", 100, True), ("always", 100, False), ("auto", 100, False), ("auto", 20, True)],
)
def test_training_waits_for_an_exchange_unless_it_overlaps(
    overlap: str, exchange: float, waits: bool
) -> None:
    whole = laptops(exchange=exchange, seconds=300, overlap=overlap).epoch
    assert whole == pytest.approx(laptops().epoch * (1 + exchange / 300 if waits else 1))
