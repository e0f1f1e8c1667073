"""The figures of an audit, and the score that follows from them. Integers, so that all find the same score.

A contribution is tried alone: STEP_SHARE of its step, and no more of it than the fold takes, is taken from
the state that it started from. The whole step would raise the loss of other samples for most honest
contributions once training is near its end, because the noise of one volunteer's batches is in it; in the
round's mean it cancels. A share of it shows the direction (docs/PERFORMANCE.md has the figures).

Two things count as harm, and the score is the larger one:

- *the loss*: it rises by more than the usual change, in units of it.
- *no use*: the contribution points where no trusted one does (its alignment is below a quarter of the usual
  one) and lowers the loss by less than half of the usual gain. Noise does that: it costs the round's mean its
  share of the weight, and raises the loss by too little to measure. Neither half is enough alone: a late or
  a small honest contribution gains little and points with the others, and what gains is no harm.
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

ALIGNED = 4
"""Part of the usual alignment below which a contribution points elsewhere."""
GAINING = 2
"""Part of the usual gain below which a contribution is of no use."""
DISTINCT = 40_000
"""Usual alignment below which honest contributions may point anywhere: near the end of training the noise of
their batches is most of them. Then only a contribution that points clearly against them points elsewhere."""
OPPOSED = 100_000
"""Alignment, against the others, that is clear then."""
FEWEST_TRUSTED = 3
"""Contributions by other trusted keys without which an alignment shows nothing."""
MILLION = 10**6
NANO = 10**9

Nano = Annotated[int, Field(ge=-MOST, le=MOST)]
"""Nanonats a token."""
Size = Annotated[int, Field(ge=0, le=MOST)]
Cosine = Annotated[int, Field(ge=-MILLION, le=MILLION)]
"""Millionths."""
Millionths = Annotated[int, Field(ge=0, le=MILLION)]


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
    alignment: Cosine
    """With the contributions of other trusted keys: the lower median of the cosines."""
    usual_alignment: Cosine
    """Of the trusted contributions of the round; 0 where these are too few."""
    finding: Finding = "tried"

    @property
    def score(self) -> int:
        """See `barnraise.contract.evidence`."""
        if self.finding != "tried":
            return UNIT
        return max(self._harm, min(self.distance, self._uselessness))

    @property
    def distance(self) -> int:
        """Whether the contribution points elsewhere; known without a trial."""
        return distance(self.alignment, self.usual_alignment)

    @property
    def _harm(self) -> int:
        """Where all raise the loss, only raising it more counts."""
        return _score(self.change - max(0, self.usual), max(self.scale, ERRORS * self.error))

    @property
    def _uselessness(self) -> int:
        """Where the usual contribution gains nothing, no gain is missed."""
        gain = -self.usual
        if gain <= 0:
            return FLOOR
        return _score(self.change + gain // GAINING, max(gain // (2 * GAINING), ERRORS * self.error))


def raises_loss(change: int, error: int) -> bool:
    """Whether a change of the loss is a rise that is distinguished from none."""
    return change > ERRORS * error


def distance(alignment: int, usual: int) -> int:
    """Whether a contribution points elsewhere than the usual one: above 0 it does."""
    if usual <= 0:
        return FLOOR
    least = usual // ALIGNED
    return _score(least - alignment, least if usual >= DISTINCT else OPPOSED)


def _score(excess: int, unit: int) -> int:
    return max(FLOOR, min(UNIT, UNIT * excess // max(unit, 1)))


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


def usual_alignment_of(trusted: Sequence[int]) -> int:
    """The lower median of the alignments of a round's trusted contributions: more than half decide it."""
    return sorted(trusted)[(len(trusted) - 1) // 2] if len(trusted) > FEWEST_TRUSTED else 0
