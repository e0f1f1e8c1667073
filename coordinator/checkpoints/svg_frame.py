"""The frame of a small picture of curves: axes with ticks, as SVG. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

LEFT, TOP, BOTTOM = 64, 36, 48
"""Margins, in the picture's own units."""
TICKS = 4

# Colours that are legible on white and on black.
TEXT, GRID = "#7d8590", "#7d859055"


@dataclass(frozen=True)
class Axis:
    """What is between two ends, which differ."""

    low: float
    high: float

    @classmethod
    def around(cls, low: float, high: float) -> Axis:
        """With a margin above and below, also where all values are equal."""
        margin = max((high - low) * 0.08, abs(high) * 0.01, 1e-2)
        return cls(low - margin, high + margin)

    def at(self, share: float) -> float:
        return self.low + share * (self.high - self.low)

    def place(self, value: float) -> float:
        """The share of the axis below `value`."""
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Frame:
    """From values to places in the picture."""

    across: Axis
    up: Axis
    width: int
    height: int
    right: int
    """The margin on the right."""

    def spot(self, x: float, y: float) -> tuple[float, float]:
        """Where a point is drawn."""
        inside = self.width - LEFT - self.right
        return LEFT + self.across.place(x) * inside, self._row(self.up.place(y))

    def start(self) -> str:
        """The opening tag of the picture."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" role="img"'
            f' font-family="sans-serif" font-size="12" fill="{TEXT}">'
        )

    def ticks(self, label: Callable[[float], str]) -> Iterator[str]:
        """Lines and labels. label: of values across."""
        edge = self.width - self.right
        for step in range(TICKS + 1):
            value = self.up.at(step / TICKS)
            y = self._row(self.up.place(value))
            yield f'<path d="M{LEFT} {y:.1f}H{edge}" stroke="{GRID}"/>'
            yield f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:.3f}</text>'
            value = self.across.at(step / TICKS)
            x, _ = self.spot(value, self.up.low)
            below = self.height - BOTTOM + 18
            yield f'<text x="{x:.1f}" y="{below}" text-anchor="middle">{label(value)}</text>'

    def name_across(self, name: str) -> str:
        """The name of the axis across, as markup."""
        middle = (LEFT + self.width - self.right) / 2
        return f'<text x="{middle:.0f}" y="{self.height - 10}" text-anchor="middle">{name}</text>'

    def _row(self, share: float) -> float:
        return self.height - BOTTOM - share * (self.height - TOP - BOTTOM)
