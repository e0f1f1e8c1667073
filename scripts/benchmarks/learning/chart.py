"""A line chart as SVG, readable on light and on dark pages. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 720, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 190, 24, 48
_COLOURS = ("#7a7a7a", "#3b82c4", "#2a9d6f", "#d1772d", "#a559b5")
_GREY = "#808080"
_TICKS = 5


@dataclass(frozen=True)
class Line:
    """A named curve."""

    name: str
    points: Sequence[tuple[float, float]]
    dashed: bool = False
    colour: int = 0
    """An index of the palette."""


def line_chart(lines: Sequence[Line], across: str, up: str) -> str:
    """An SVG document. across, up: the names of the axes. There has to be a point."""
    points = [point for line in lines for point in line.points]
    plot = _Plot(
        max(x for x, _ in points), min(y for _, y in points), max(y for _, y in points)
    )  # the horizontal axis begins at 0
    body = "\n".join([*_axes(plot, across, up), *_curves(plot, lines)])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif"'
        f' font-size="13">\n{body}\n</svg>\n'
    )


@dataclass(frozen=True)
class _Plot:
    """From data to the picture."""

    right: float
    low: float
    high: float

    def x(self, value: float) -> float:
        return _LEFT + value / self.right * (WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.low) / ((self.high - self.low) or 1)
        return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)


def _axes(plot: _Plot, across: str, up: str) -> Iterator[str]:
    bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    yield f'<path d="M{_LEFT} {_TOP}V{bottom}H{right}" fill="none" stroke="{_GREY}"/>'
    for tick in range(_TICKS + 1):
        value = plot.low + (plot.high - plot.low) * tick / _TICKS
        yield _text(_LEFT - 8, plot.y(value) + 4, f"{value:.2f}", "end")
        value = plot.right * tick / _TICKS
        yield _text(plot.x(value), bottom + 18, f"{value:g}", "middle")
    yield _text((_LEFT + right) / 2, HEIGHT - 10, across, "middle")
    yield _text(_LEFT, _TOP - 8, up, "start")


def _curves(plot: _Plot, lines: Sequence[Line]) -> Iterator[str]:
    for place, line in enumerate(lines):
        colour = _COLOURS[line.colour % len(_COLOURS)]
        path = "L".join(f"{plot.x(x):.1f} {plot.y(y):.1f}" for x, y in line.points)
        dash = ' stroke-dasharray="6 4"' if line.dashed else ""
        yield f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>'
        y = _TOP + 20 * place + 6
        key = WIDTH - _RIGHT + 14
        yield f'<path d="M{key} {y}h22" stroke="{colour}" stroke-width="2"{dash}/>'
        yield _text(key + 28, y + 4, line.name, "start")


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{_GREY}">{escape(text)}</text>'
