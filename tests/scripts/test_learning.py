"""The pure parts of `scripts/bench learning` and `scripts/bench volunteers`."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from barnraise.contract.spec import Full, Lora
from scripts.benchmarks.arms.arms import Diloco, with_rate
from scripts.benchmarks.learning.chart import HEIGHT, WIDTH, Line, line_chart
from scripts.benchmarks.learning.rows import ALONE as LEARNING_ALONE
from scripts.benchmarks.learning.rows import DEFAULTS, rows
from scripts.benchmarks.learning.texts import documentation, is_held_out
from scripts.benchmarks.learning.value import (
    AMONG,
    EQUAL,
    HOME,
    TARGET,
    Curve,
    alone_row,
    picture,
    value_rows,
    value_table,
)

ALONE = Curve(1, EQUAL, [(8, 3.4), (16, 3.2), (24, 3.1)])
FOUR = Curve(4, EQUAL, [(8, 3.2), (16, 3.0)])


@pytest.mark.parametrize("target", [Lora(), Full()])
def test_every_row_has_a_name_and_every_reference_is_a_row(target: Lora | Full) -> None:
    every = rows(target, 4)
    names = [row.name for row in every]
    assert len(set(names)) == len(names)
    likes = {row.tune for row in every if isinstance(row.tune, str)}
    assert {name for row in every for name in (row.against, row.alone, row.ddp) if name} | likes <= set(names)


def test_a_loss_is_reached_between_two_points() -> None:
    assert FOUR.reaches(3.1) == pytest.approx(12)
    assert FOUR.reaches(3.0) == 16
    assert FOUR.reaches(2.9) is None


def test_the_value_of_volunteers_is_the_time_of_one_machine() -> None:
    lines = value_table([ALONE, FOUR, Curve(4, HOME, [(8, 3.4), (16, 3.2)])]).splitlines()
    assert lines[2] == "| 1 | equal speeds | 3.1000 | 24 | 1.00 |"
    assert lines[3] == "| 4 | equal speeds | 3.0000 | 12 | 0.50 |"
    assert lines[4].endswith("| – | – |")


def test_volunteers_have_the_default_settings_at_equal_and_at_home_speeds() -> None:
    equal, home = value_rows(8)
    assert isinstance(equal.arm, Diloco)
    assert isinstance(home.arm, Diloco)
    assert (equal.arm.speeds, len(home.arm.speeds)) == ((), 8)
    assert max(home.arm.speeds) == 1


def test_the_benches_of_learning_share_their_arms() -> None:
    every = {row.name: row.arm for row in rows(TARGET, AMONG)}
    assert value_rows(AMONG)[0].arm == every[DEFAULTS]
    assert with_rate(every[LEARNING_ALONE], 5e-4) == alone_row(5e-4).arm


def test_a_chart_is_an_svg_document_with_all_its_names_inside_the_picture() -> None:
    root = ElementTree.fromstring(picture([ALONE, FOUR, Curve(8, HOME, FOUR.points)]))
    texts = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert {"one machine alone", "4 volunteers"} <= set(texts)
    for element in root.iter():
        if element.tag.endswith("text"):
            length = 0 if element.get("text-anchor") else 7.5 * len(element.text or "")  # at size 12
            assert 0 <= float(element.attrib["x"]) <= WIDTH - length
            assert 0 <= float(element.attrib["y"]) <= HEIGHT


def test_names_in_a_chart_are_escaped_and_a_flat_line_is_drawn() -> None:
    root = ElementTree.fromstring(line_chart([Line("a < b & c", [(1, 2.0), (2, 2.0)])], "x", "y"))
    assert "a < b & c" in [element.text for element in root.iter()]


def test_the_documentation_is_the_same_each_time_and_a_tenth_is_held_out() -> None:
    first, second = documentation(), documentation()
    assert first == second
    assert len(set(first)) == len(first)
    assert 0.08 < sum(map(is_held_out, first)) / len(first) < 0.12
