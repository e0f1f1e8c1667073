"""The section `train.schedule` of a run spec: how the learning rate changes in the course of a run."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from barnraise.core.strict import Strict

MAX_ROUNDS = 10**9
MAX_PLANNED_TOKENS = 10**15

Rounds = Annotated[int, Field(ge=1, le=MAX_ROUNDS)]


class Schedule(Strict):
    """The learning rate in the course of the run: it rises, stays, and falls.

    Of `diloco` it is the inner rate, for all peers alike, and of `gradient` the outer one (Hu et al. 2024).
    Without `rounds` and `tokens` the run has no end, and the rate stays; `coordinator serve --decay` then
    ends it."""

    rounds: Rounds | None = Field(default=None, examples=[500])
    """Planned length of the run in rounds: after them no other opens.
    Rounds that a rollback made void do not count."""
    tokens: Annotated[int, Field(ge=1, le=MAX_PLANNED_TOKENS)] | None = Field(
        default=None, examples=[100_000_000]
    )
    """Planned length in trained tokens of all volunteers.
    The run ends with the round that reaches them, or with `rounds` where these are over before. Of one
    contribution as many count as `trust.claim_factor` allows, and none of a key without a weight."""
    warmup_rounds: Annotated[int, Field(ge=0, le=MAX_ROUNDS)] = 0
    """First rounds, over which the learning rate rises linearly.
    Set it where the loss jumps in the first rounds. `train.inner.warmup_steps` are those of each peer."""
    decay: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Last share of that length, over which the rate falls linearly towards 0.
    A fifth is usual; 1 decays from the first round on, 0 not at all."""

    @property
    def decay_rounds(self) -> int:
        """The last rounds of a run that is planned by `rounds`, over which the rate falls."""
        return round(self.decay * (self.rounds or 0))

    @model_validator(mode="after")
    def _warm_before_the_decay(self) -> Schedule:
        if self.rounds is not None and self.warmup_rounds + self.decay_rounds > self.rounds:
            raise ValueError(
                f"warmup_rounds is {self.warmup_rounds} and the decay has {self.decay_rounds} rounds,"
                f" of {self.rounds}"
            )
        return self
