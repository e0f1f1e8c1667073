"""The held-out curve is a valid picture for any points and names."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.checkpoints.curve import HEIGHT, WIDTH, Point, held_out_svg

SVG = "{http://www.w3.org/2000/svg}"
points = st.lists(st.tuples(st.integers(0, 10**12), st.floats(0, 1e6)), min_size=1, max_size=30).map(sorted)


def spots(svg: str) -> list[tuple[float, float]]:
    root = ElementTree.fromstring(svg)
    return [(float(dot.get("cx", "")), float(dot.get("cy", ""))) for dot in root.iter(f"{SVG}circle")]


def labels(svg: str) -> list[str]:
    return [text.text or "" for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]


@given(points)
def test_every_point_is_in_the_picture(given_points: list[Point]) -> None:
    found = spots(held_out_svg("barn", given_points))
    assert len(found) == len(given_points)
    assert all(0 < x < WIDTH and 0 < y < HEIGHT and math.isfinite(x + y) for x, y in found)
    for (x1, y1), (x2, y2), before, after in zip(
        found, found[1:], given_points, given_points[1:], strict=False
    ):
        assert x1 <= x2
        assert (y1 <= y2) if before[1] > after[1] else (y1 >= y2), "a lower loss is drawn lower"


@pytest.mark.parametrize("given_points", [[(0, 2.5)], [(1_500_000, 0.0)], [(0, 3.0), (1000, 3.0)]])
def test_one_point_or_a_flat_line_has_axes_that_can_be_read(given_points: list[Point]) -> None:
    svg = held_out_svg("barn", given_points)
    ticks = labels(svg)[1:-1]
    assert len(ticks) == len(set(ticks)) == 10, f"two ticks have the same label: {ticks}"
    assert len(spots(svg)) == len(given_points)


def test_it_has_a_title() -> None:
    svg = held_out_svg("barn", [(0, 3.0), (1_234_567, 2.5)])
    assert ElementTree.fromstring(svg).findtext(f"{SVG}title") == (
        "barn: held-out loss from 3.000 to 2.500 over 1,234,567 tokens"
    )
    assert {"barn: held-out loss (nats per token)", "tokens trained on", "1.23M"} <= set(labels(svg))


def test_the_same_points_give_the_same_bytes() -> None:
    assert held_out_svg("barn", [(0, 3.0), (10, 2.0)]) == held_out_svg("barn", [(0, 3.0), (10, 2.0)])


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "]]>&amp;\"'", "</title></svg><svg onload=x>"])
def test_markup_in_a_name_is_escaped(name: str) -> None:
    svg = held_out_svg(name, [(0, 3.0)])
    plain = held_out_svg("barn", [(0, 3.0)])
    assert labels(svg)[0] == f"{name}: held-out loss (nats per token)"
    tags = [[element.tag for element in ElementTree.fromstring(text).iter()] for text in (svg, plain)]
    assert tags[0] == tags[1]
