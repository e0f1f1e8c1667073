"""Draws the held-out curve of a run as a small SVG: pure, the same points always give the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from barnraise.core.plain_text import one_line

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 20, 36, 48
"""Margins, in the picture's own units."""
TICKS = 4

# Colours that are legible on white and on black.
_LINE, _TEXT, _GRID = "#2f81f7", "#7d8590", "#7d859055"

Point = tuple[int, float]
"""Tokens trained on, and the held-out loss in nats a token."""


def held_out_svg(run: str, points: Sequence[Point], means: Sequence[Point] = ()) -> str:
    """The loss over the tokens trained on. points: of states, at least one, by tokens. means: of states."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    low, high = min(y for _, y in (*points, *means)), max(y for _, y in (*points, *means))
    x_axis, y_axis = _Axis(0, max(x for x, _ in (*points, *means)) or TICKS), _Axis.around(low, high)
    run = one_line(run)
    title = f"{run}: held-out loss from {ys[0]:.3f} to {ys[-1]:.3f} over {max(xs):,} tokens"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
        f' font-family="sans-serif" font-size="12" fill="{_TEXT}">',
        f"<title>{escape(title)}</title>",
        f'<text x="{LEFT}" y="20" font-size="14">{escape(run)}: held-out loss (nats per token)</text>',
    ]
    for step in range(TICKS + 1):
        value = y_axis.at(step / TICKS)
        y = _y(y_axis.place(value))
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="{_GRID}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:.3f}</text>')
        value = x_axis.at(step / TICKS)
        x = _x(x_axis.place(value))
        parts.append(
            f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{_count(value)}</text>'
        )
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 10}" text-anchor="middle">'
        "tokens trained on</text>"
    )
    spots = [(_x(x_axis.place(x)), _y(y_axis.place(y))) for x, y in points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
    parts.append(f'<polyline points="{path}" fill="none" stroke="{_LINE}" stroke-width="2"/>')
    parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{_LINE}"/>' for x, y in spots]
    rings = [(_x(x_axis.place(x)), _y(y_axis.place(y))) for x, y in means]
    parts += [
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="none" stroke="{_LINE}" stroke-width="2">'
        "<title>mean of states</title></circle>"
        for x, y in rings
    ]
    if means:
        parts.append(
            f'<text x="{WIDTH - RIGHT}" y="20" text-anchor="end">○ mean of states: {means[-1][1]:.3f}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])


class _Axis:
    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    @classmethod
    def around(cls, low: float, high: float) -> _Axis:
        """With a margin above and below, also where all values are equal."""
        margin = max((high - low) * 0.08, abs(high) * 0.01, 1e-2)
        return cls(low - margin, high + margin)

    def at(self, share: float) -> float:
        return self.low + share * (self.high - self.low)

    def place(self, value: float) -> float:
        return (value - self.low) / (self.high - self.low)


def _x(share: float) -> float:
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _count(value: float) -> str:
    """1234567 as 1.23M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.0f}"
