"""The interface of a blob format, and what all formats share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from barnraise.contract.state import Array
from barnraise.core.errors import MalformedBlob, StateError

Bytes = npt.NDArray[np.uint8]

MAX_MAGNITUDE = 1e6
"""Far above any real update; a blob that could decode to a larger value is refused."""

MAGNITUDE = np.int32(0x7FFF_FFFF)
"""All bits of an fp32 but the sign. Magnitudes are ordered as these bits are, and numpy is several times
as fast on integers."""


@dataclass(frozen=True)
class Identifier:
    """A format and its settings, as a blob's header names them."""

    kind: int
    bits: int
    kept: int
    """Values of a block that are sent; 0 where all are."""
    block: int


class Section(Protocol):
    """One tensor's part of a blob, already checked."""

    def values(self, start: int, stop: int) -> Array:
        """Values [start, stop) of the flattened tensor, as the format's `chunks` cuts it."""
        ...

    def squares(self) -> float:
        """The sum of the values' squares: the same bits on every machine."""
        ...


class Format(Protocol):
    """The encoding of one tensor's values in a blob."""

    @property
    def identifier(self) -> Identifier:
        """The format in a blob's header."""
        ...

    def chunks(self, size: int) -> Iterator[tuple[int, int]]:
        """Ranges that cover `size` values and can be decoded separately."""
        ...

    def sizes(self, size: int) -> tuple[int, int]:
        """The smallest and the largest size in bytes of a tensor of `size` values."""
        ...

    def typical(self, size: int) -> int:
        """Expected bytes of a tensor of `size` values."""
        ...

    def encode(self, name: str, flat: Array, blob: Bytes, offset: int) -> int:
        """Write `flat` at `offset` and subtract from it what was written. Returns the end of the section.

        Raises StateError when a value is not finite.
        """
        ...

    def read(self, name: str, size: int, blob: Bytes, offset: int) -> tuple[Section, int]:
        """The section at `offset`, and its end.

        Raises MalformedBlob unless every value in it decodes to at most MAX_MAGNITUDE.
        """
        ...


def malformed(what: str) -> MalformedBlob:
    return MalformedBlob(
        f"a contribution's blob is malformed: {what}",
        fix="It is refused and the round continues without it. Its sender may run another version.",
    )


def check_finite(finite: bool | np.bool_, name: str) -> None:
    """Raises StateError unless `finite`."""
    if not finite:
        raise StateError(
            f"the update of {name} is not finite",
            fix="Lower the learning rate, or set `train.inner.clip_norm`; this round is not sent.",
        )


def bfloat16_values(bits: npt.NDArray[np.uint16]) -> Array:
    """The bfloat16 numbers with these bits as fp32, exactly."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
