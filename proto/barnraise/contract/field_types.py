"""Field types that the records of a run share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator, Field

from barnraise.core.ids import RUN_PATTERN

Run = Annotated[str, Field(pattern=RUN_PATTERN)]
RoundNumber = Annotated[int, Field(ge=0, lt=2**40)]
Time = Annotated[int, Field(ge=0, lt=253_402_300_800_000)]
"""Milliseconds since 1970, before the year 10000: later ones are no date that programs can print."""
MAX_COUNT = 2**53 - 1
"""The largest integer that every JSON reader has exactly."""
Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
MAX_TOKENS = 2**40 - 1
"""Tokens of one volunteer in one round: 30 hours at ten million a second."""
Tokens = Annotated[int, Field(ge=0, le=MAX_TOKENS)]
MAX_TOKENS_PER_SECOND = 1e9
Speed = Annotated[float, Field(ge=0, le=MAX_TOKENS_PER_SECOND)]
"""Tokens a second of one volunteer."""
MAX_LOSS = 100.0
"""Nats a token; an untrained model has the logarithm of its vocabulary's size, about 12."""
Loss = Annotated[float, Field(ge=0, le=MAX_LOSS)]
MAX_EMBEDDED_BYTES = 3072
Embedded = Annotated[str, Field(max_length=4 * MAX_EMBEDDED_BYTES // 3)]
"""A small signed record in base64."""
Epoch = Annotated[int, Field(ge=0, lt=2**31)]
"""Number of a history of the run: a resume begins the next one (`barnraise.contract.log_entries`)."""
Height = Annotated[int, Field(ge=0, lt=2**40)]
"""Entries of the log before this one."""
Turns = Annotated[int, Field(ge=1, le=2**20)]
"""A volunteer contributes to one round in this number (`barnraise.contract.rotation`)."""
Kind = Annotated[str, Field(pattern=r"^[a-z]{1,20}$")]
"""Kind of a log entry."""
Range = tuple[RoundNumber, RoundNumber]
"""The first and the last round of several."""
MAX_VOID = 256
MAX_AVERAGED = 32
"""States of which a checkpoint may hold the mean."""


def _disjoint(ranges: tuple[Range, ...]) -> tuple[Range, ...]:
    ends = [end for first, last in ranges for end in (first, last + 1)]
    if any(ends[place] >= ends[place + 1] for place in range(0, len(ends), 2)) or ends != sorted(ends):
        raise ValueError("void rounds are not sorted and disjoint")
    return ranges


Void = Annotated[
    tuple[Range, ...],
    Field(max_length=MAX_VOID, exclude_if=lambda ranges: not ranges),
    AfterValidator(_disjoint),
]
"""Rounds whose contributions are void, by rollbacks: sorted and disjoint."""
Release = Annotated[str, Field(pattern=r"^[0-9]{1,4}(\.[0-9]{1,4}){0,3}$")]
"""A version of Barnraise, such as 0.1.0."""


def total(counts: Iterable[int]) -> int:
    """The sum of numbers that others state, at most what a `Count` can be."""
    return min(sum(counts), MAX_COUNT)
