"""Draws the held-out curve of a run as a small SVG: pure, the same points always give the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from barnraise.core.plain_text import one_line
from coordinator.checkpoints.svg_frame import LEFT, TICKS, Axis, Frame

WIDTH, HEIGHT, RIGHT = 640, 300, 20
_LINE = "#2f81f7"

Point = tuple[int, float]
"""Tokens trained on, and the held-out loss in nats a token."""


def held_out_svg(run: str, points: Sequence[Point], means: Sequence[Point] = ()) -> str:
    """The loss over the tokens trained on. points: of states, at least one, by tokens. means: of states."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    every = (*points, *means)
    low, high = min(y for _, y in every), max(y for _, y in every)
    across = Axis(0, max(x for x, _ in every) or TICKS)
    frame = Frame(across, Axis.around(low, high), WIDTH, HEIGHT, RIGHT)
    run = one_line(run)
    title = f"{run}: held-out loss from {ys[0]:.3f} to {ys[-1]:.3f} over {max(xs):,} tokens"
    parts = [
        frame.start(),
        f"<title>{escape(title)}</title>",
        f'<text x="{LEFT}" y="20" font-size="14">{escape(run)}: held-out loss (nats per token)</text>',
        *frame.ticks(_count),
        frame.name_across("tokens trained on"),
    ]
    spots = [frame.spot(x, y) for x, y in points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
    parts.append(f'<polyline points="{path}" fill="none" stroke="{_LINE}" stroke-width="2"/>')
    parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{_LINE}"/>' for x, y in spots]
    parts += [
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="none" stroke="{_LINE}" stroke-width="2">'
        "<title>mean of states</title></circle>"
        for x, y in (frame.spot(x, y) for x, y in means)
    ]
    if means:
        parts.append(
            f'<text x="{WIDTH - RIGHT}" y="20" text-anchor="end">○ mean of states: {means[-1][1]:.3f}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])


def _count(value: float) -> str:
    """1234567 as 1.23M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.0f}"
