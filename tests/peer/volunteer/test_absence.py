"""What one contribution holds at most."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from barnraise.contract.spec import RoundSpec
from peer.volunteer.absence import SENT_ROUNDS, TRAINED_ROUNDS, most_tokens


@dataclass(frozen=True)
class Speed:
    """A measured speed."""

    tokens_per_second: float
    tokens_per_step: float


ROUND, STEPS = RoundSpec(seconds=100.0), RoundSpec(seconds=100.0, steps=5)


@pytest.mark.parametrize(
    ("spec", "turns", "limit"),
    [(ROUND, 1, 1000 * SENT_ROUNDS), (STEPS, 1, 400 * SENT_ROUNDS), (ROUND, 50, 50_000)],
)
def test_a_contribution_holds_a_few_rounds_and_always_a_turn(spec: RoundSpec, turns: int, limit: int) -> None:
    assert most_tokens(spec, turns, Speed(10.0, 80.0)) == limit


def test_without_a_measurement_there_is_no_limit() -> None:
    assert most_tokens(ROUND, 1, Speed(0.0, 0.0)) is None


def test_what_one_absence_trains_goes_out_in_finitely_many_rounds() -> None:
    assert SENT_ROUNDS > 1
    assert TRAINED_ROUNDS == {"diloco": 30, "gradient": 0}
