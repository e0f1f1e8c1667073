"""The figures of an audit, and the score that follows from them. Integers, so that all find the same score.

A contribution is tried alone: STEP_SHARE of its step is taken from the state that it started from. The whole
step would raise the loss of other samples for most honest contributions once training is near its end,
because the noise of one volunteer's batches is in it; in the round's mean it cancels. A share of it shows the
direction (docs/PERFORMANCE.md has the figures).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from barnraise.contract.evidence import FLOOR, UNIT
from barnraise.contract.field_types import RoundNumber
from barnraise.core.strict import Hex64, Strict

STEP_SHARE = 1 / 8
"""Of a contribution's step."""
MOST = 10**12
"""Change of the loss where it is not finite, or larger: 1000 nats a token."""
ERRORS = 2
"""Standard errors below which a change is not distinguished from none."""

Nano = Annotated[int, Field(ge=-MOST, le=MOST)]
"""Nanonats a token."""
Size = Annotated[int, Field(ge=0, le=MOST)]


Finding = Literal["tried", "copy", "replay", "empty"]
"""tried: the change of the loss counts. copy, replay: it repeats another contribution, of this round or an
earlier one. empty: all of its values are 0."""


class Figures(Strict):
    """What an audit of one contribution found, and what it is compared with."""

    round: RoundNumber
    blob: Hex64
    change: Nano
    """Of the loss, by STEP_SHARE of the contribution: the mean over secret samples of paired differences."""
    error: Size
    """Standard error of that mean."""
    usual: Nano
    """Median change by the contributions that count as reference."""
    scale: Size
    """Median size of their changes."""
    finding: Finding = "tried"

    @property
    def score(self) -> int:
        """See `barnraise.contract.evidence`. Where all raise the loss, only raising it more counts."""
        if self.finding != "tried":
            return UNIT
        excess = self.change - max(0, self.usual)
        return max(FLOOR, min(UNIT, UNIT * excess // max(self.scale, ERRORS * self.error, 1)))


class Reference(Strict):
    """What contributions change, by recent audits of others."""

    usual: Nano = 0
    scale: Size = 0


def reference_of(changes: Sequence[int]) -> Reference:
    """Lower medians: with fewer than half of them false, both are within the range of the true ones."""
    if not changes:
        return Reference()
    middle = (len(changes) - 1) // 2
    return Reference(usual=sorted(changes)[middle], scale=sorted(map(abs, changes))[middle])
