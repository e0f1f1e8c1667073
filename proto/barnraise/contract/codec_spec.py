"""The section `codec` of a run spec: how an update is compressed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from barnraise.core.strict import Strict


class Dense(Strict):
    """Every value is sent, in blocks that share a scale."""

    kind: Literal["dense"] = "dense"
    bits: Literal[1, 2, 4, 8, 16] = 4
    """Bits per value; 16 is IEEE half precision without scales.
    2 halves the traffic of 4, and 1, which sends signs, that of 2.
    docs/PERFORMANCE.md compares their losses."""
    block: Annotated[int, Field(ge=8, le=65_536, multiple_of=8)] = 128
    """Values that share one scale of 16 bits."""


class Raw(Strict):
    """Plain fp32: the uncompressed reference."""

    kind: Literal["raw"] = "raw"


class Sparse(Strict):
    """Only the largest values of a block are sent; the rest stays in the residual.

    For large updates and slow uplinks: `coordinator check` says when.
    """

    kind: Literal["sparse"] = "sparse"
    density: Annotated[float, Field(gt=0, le=0.5)] = 1 / 16
    """Share of the values that is sent in a round.
    It takes about 4 / density rounds until all of an update is sent, so a run needs at least that many: 64
    rounds at 1/16, 256 rounds at 1/64."""
    bits: Literal[2, 4, 8] = 2
    """Bits per value that is sent: its sign and a level.
    Levels lie between the smallest and the largest sent value of a block. These are close together, so two
    bits lose far less than the values that are not sent."""
    block: Annotated[int, Field(ge=64, le=65_536)] = 4096
    """Values among which the largest are chosen: a power of two.
    They share their levels."""
    ef_decay: Annotated[float, Field(ge=0, le=1)] = 0.95
    """Share of the residual that is kept after a round.
    Below 1, stale updates fade instead of arriving late."""

    @model_validator(mode="after")
    def _block_is_a_power_of_two(self) -> Sparse:
        if self.block & (self.block - 1):
            raise ValueError(f"block must be a power of two, as {1 << self.block.bit_length() - 1} is")
        return self

    @property
    def kept(self) -> int:
        """Values of a whole block that are sent."""
        return max(1, round(self.density * self.block))


CodecSpec = Annotated[Dense | Raw | Sparse, Field(discriminator="kind")]
