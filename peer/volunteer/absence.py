"""Training through an absence of the coordinator: how long it helps, and how the work goes out. Pure.

No round closes meanwhile, so volunteers train on from the state that they have. Their work counts in the
rounds after the absence; what one contribution cannot hold goes out with the next ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

from barnraise.contract.spec import RoundSpec

TRAINED_ROUNDS: Mapping[Literal["diloco", "gradient"], int] = {"diloco": 30, "gradient": 0}
"""Rounds' worth of steps that are trained from one state at most, by `train.method`.

docs/PERFORMANCE.md has the measurements. A gradient of more samples is one step still, and does not help."""
SENT_ROUNDS = 4
"""Rounds' worth of tokens in one contribution at most, and more only where turns are rarer."""


class Speed(Protocol):
    """How fast a volunteer trains, as measured; 0 before its first step."""

    @property
    def tokens_per_second(self) -> float: ...

    @property
    def tokens_per_step(self) -> float: ...


def most_tokens(spec: RoundSpec, turns: int, speed: Speed) -> int | None:
    """Tokens that one contribution holds at most; None where nothing was measured.

    turns: a volunteer contributes to one round in `turns`.
    """
    if not speed.tokens_per_second:
        return None
    of_round = speed.tokens_per_second * spec.seconds
    if spec.steps is not None:
        of_round = min(of_round, speed.tokens_per_step * spec.steps)
    return max(1, round(of_round * max(SENT_ROUNDS, turns)))
