"""What the codec asks of a blob format, and what all formats have in common."""

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
"""No honest update has a larger value; a blob that could decode to one is refused."""

MAGNITUDE = np.int32(0x7FFF_FFFF)
"""Of an fp32's bits, all but the sign. Magnitudes are ordered as their bits are, and numpy is several
times as fast on integers."""


@dataclass(frozen=True)
class Identifier:
    """A format and its settings, as a blob's header names them."""

    kind: int
    bits: int
    kept: int
    """Values sent of each block, 0 where all are."""
    block: int


class Section(Protocol):
    """One tensor's part of a blob, checked."""

    def values(self, start: int, stop: int) -> Array:
        """Values [start, stop) of the flattened tensor, as the format's `chunks` cuts it."""
        ...


class Format(Protocol):
    """How one tensor's values stand in a blob."""

    @property
    def identifier(self) -> Identifier: ...

    def chunks(self, size: int) -> Iterator[tuple[int, int]]:
        """Ranges that cover `size` values, each of which can be decoded by itself."""
        ...

    def sizes(self, size: int) -> tuple[int, int]:
        """The least and the most bytes that a tensor of `size` values takes."""
        ...

    def typical(self, size: int) -> int:
        """Bytes that it takes, as far as one can tell beforehand."""
        ...

    def encode(self, name: str, flat: Array, blob: Bytes, offset: int) -> int:
        """Write `flat` at `offset` and subtract from it what was written. Returns where the section ends.

        Raises StateError when a value is not finite.
        """
        ...

    def read(self, name: str, size: int, blob: Bytes, offset: int) -> tuple[Section, int]:
        """The section at `offset`, and where it ends.

        Raises MalformedBlob unless every value in it will decode, to at most MAX_MAGNITUDE.
        """
        ...


def malformed(what: str) -> MalformedBlob:
    return MalformedBlob(
        f"a contribution's blob is not one: {what}",
        fix="It is refused and the round goes on without it. Its sender may run another version.",
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
