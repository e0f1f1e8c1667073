"""The section `checkpoint` of a run spec: how often checkpoints are written, and which one is `main`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from barnraise.contract.field_types import MAX_AVERAGED
from barnraise.contract.spec_numbers import Count, NonNegative, PositiveCount
from barnraise.core.strict import Hex64, Strict

ROLLBACK_ROUNDS = 64
"""Default of `checkpoint.rollback_rounds`."""
AVERAGED = 3
"""Default of `checkpoint.average`."""


class CheckpointSpec(Strict):
    """How often checkpoints are written and kept, and which one becomes `main`."""

    every: PositiveCount = 5
    """Rounds between checkpoints.
    The first state is always a checkpoint. Volunteers who join start from the newest one."""
    keep: PositiveCount = 10
    """Newest checkpoints kept, in addition to the best and the promoted one."""
    log_gigabytes: NonNegative = 20.0
    """Gigabytes of contributions kept, to replay the run from its base model.
    Above this the oldest are removed, and a replay starts from a checkpoint."""
    rollback_rounds: Annotated[
        int, Field(ge=0, le=4096, exclude_if=lambda rounds: rounds == ROLLBACK_ROUNDS)
    ] = ROLLBACK_ROUNDS
    """Rounds that `coordinator rollback` can go back at least.
    The contributions of as many rounds are kept, also above `log_gigabytes`. An automatic rollback, which
    goes with a ban, happens at most once in as many rounds."""
    held_out_tokens: Count = 32_768
    """Held-out tokens of an evaluation, approximately; 0 disables evaluation."""
    average: Annotated[int, Field(ge=0, le=MAX_AVERAGED, exclude_if=lambda states: states == AVERAGED)] = (
        AVERAGED
    )
    """Newest checkpoints whose mean is evaluated, too; 0 or 1: none is made.
    A mean with a lower held-out loss than the newest checkpoint takes that one's place as `main`. Volunteers
    never train from it. It is made of the newest checkpoints that `keep` keeps, without the first state, and
    costs a second evaluation. Evaluators are not asked for one."""
    promote_within: NonNegative = 0.01
    """Share by which the held-out loss of `main` may exceed the best one.
    The newest checkpoint within it becomes `main`."""
    merged: bool = False
    """Also write each promoted adapter merged into its base model."""
    gguf: Literal["f16", "q8_0"] | None = Field(default=None, examples=["q8_0"])
    """Also write each promoted checkpoint as a GGUF file.
    For llama.cpp, Ollama and LM Studio."""
    evaluators: Annotated[tuple[Hex64, ...], Field(max_length=64)] = ()
    """Keys of volunteers who evaluate checkpoints that the coordinator cannot.
    `peer key` prints a volunteer's public key. The held-out text becomes public."""
    agree: PositiveCount = 2
    """Evaluators whose held-out losses must agree."""

    @property
    def averaged(self) -> int:
        """States of a mean at most; 0 where none is made."""
        states = min(self.average, self.keep) if self.held_out_tokens else 0
        return states if states > 1 else 0

    @model_validator(mode="after")
    def _evaluators_can_agree(self) -> CheckpointSpec:
        if len(set(self.evaluators)) != len(self.evaluators):
            raise ValueError("evaluators names a key twice")
        if 0 < len(self.evaluators) < self.agree:
            raise ValueError(
                f"agree is {self.agree}, with {len(self.evaluators)} in evaluators: set agree to at most that"
            )
        if self.evaluators and not self.held_out_tokens:
            raise ValueError("evaluators have nothing to do where held_out_tokens is 0")
        return self
