"""A chart of several curves as SVG. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from coordinator.checkpoints.svg_frame import LEFT, TOP, Axis, Frame

WIDTH, HEIGHT, RIGHT = 760, 400, 230
_COLOURS = ("#7d8590", "#2f81f7", "#2a9d6f", "#d1772d", "#a559b5")


@dataclass(frozen=True)
class Line:
    """A named curve."""

    name: str
    points: Sequence[tuple[float, float]]
    dashed: bool = False
    colour: int = 0
    """An index of the palette."""


def line_chart(lines: Sequence[Line], across: str, up: str) -> str:
    """An SVG document. across, up: the names of the axes. There has to be a point with x above 0."""
    points = [point for line in lines for point in line.points]
    low, high = min(y for _, y in points), max(y for _, y in points)
    frame = Frame(Axis(0, max(x for x, _ in points)), Axis.around(low, high), WIDTH, HEIGHT, RIGHT)
    parts = [
        frame.start(),
        f'<text x="{LEFT}" y="20" font-size="14">{escape(up)}</text>',
        *frame.ticks("{:g}".format),
        frame.name_across(escape(across)),
        *_curves(frame, lines),
    ]
    return "\n".join([*parts, "</svg>", ""])


def _curves(frame: Frame, lines: Sequence[Line]) -> Iterator[str]:
    """Each curve, and its name on the right."""
    for place, line in enumerate(lines):
        stroke = f'fill="none" stroke="{_COLOURS[line.colour % len(_COLOURS)]}" stroke-width="2"'
        stroke += ' stroke-dasharray="6 4"' if line.dashed else ""
        spots = " ".join(f"{x:.1f},{y:.1f}" for x, y in (frame.spot(*point) for point in line.points))
        yield f'<polyline points="{spots}" {stroke}/>'
        x, y = WIDTH - RIGHT + 14, TOP + 20 * place + 6
        yield f'<path d="M{x} {y}h22" {stroke}/>'
        yield f'<text x="{x + 28}" y="{y + 4}">{escape(line.name)}</text>'
