"""Which samples a contribution was trained on, by their numbers in its owner's assignment. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from barnraise.contract.field_types import RoundNumber
from barnraise.core.strict import Strict

MAX_RANGES = 16
"""In a commit. Work of more rounds names the newest."""

Number = Annotated[int, Field(ge=0, lt=2**40)]


class SampleRange(Strict):
    """Samples start … start + count - 1 of an owner's assignment in a round (`barnraise.contract.assign`)."""

    round: RoundNumber
    start: Number
    count: Annotated[int, Field(gt=0, lt=2**40)]

    @property
    def stop(self) -> int:
        """The number after the last one."""
        return self.start + self.count


SampleRanges = Annotated[tuple[SampleRange, ...], Field(max_length=MAX_RANGES)]


def are_ordered(ranges: Sequence[SampleRange], newest: int) -> bool:
    """Whether the ranges are sorted, do not overlap and are of rounds up to `newest`."""
    ends = [(each.round, each.stop) for each in ranges]
    starts = [(each.round, each.start) for each in ranges[1:]]
    follow = all(end <= start for end, start in zip(ends, starts, strict=False))
    return follow and all(each.round <= newest for each in ranges)


def cover(ranges: Sequence[SampleRange], samples: int) -> bool:
    """Whether the ranges name as many samples as a commit states, or fewer where no more fit into it."""
    named = sum(each.count for each in ranges)
    return named == samples or (len(ranges) == MAX_RANGES and named < samples)


def extended(ranges: Sequence[SampleRange], more: SampleRange) -> tuple[SampleRange, ...]:
    """The ranges and one that was drawn after them."""
    if ranges and ranges[-1].round == more.round and ranges[-1].stop == more.start:
        joined = ranges[-1].model_copy(update={"count": ranges[-1].count + more.count})
        return (*ranges[:-1], joined)
    return (*ranges, more)


def split(
    ranges: Sequence[SampleRange], samples: int
) -> tuple[tuple[SampleRange, ...], tuple[SampleRange, ...]]:
    """The first `samples` samples, and the others."""
    first, others = [], []
    for each in ranges:
        taken = min(each.count, samples)
        samples -= taken
        if taken:
            first.append(each.model_copy(update={"count": taken}))
        if taken < each.count:
            rest = {"start": each.start + taken, "count": each.count - taken}
            others.append(each.model_copy(update=rest))
    return tuple(first), tuple(others)
