"""Types of the numbers in a run spec, each within bounds."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import AfterValidator, Field

LARGEST = 10**15
"""Above any number that a run needs. Times up to it are below 2^63 in milliseconds, and its square is finite
in fp32."""

LONGEST = 30 * 24 * 3600.0
"""Seconds of a time that a run may set: a month."""

Number = TypeVar("Number", int, float)


def _bounded(number: Number) -> Number:
    if number > LARGEST:
        raise ValueError(f"should be at most {LARGEST:.0e}")
    return number


_Bounded = AfterValidator(_bounded)
Positive = Annotated[float, Field(gt=0), _Bounded]
Seconds = Annotated[float, Field(gt=0, le=LONGEST)]
NonNegative = Annotated[float, Field(ge=0), _Bounded]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=0), _Bounded]
PositiveCount = Annotated[int, Field(ge=1), _Bounded]
