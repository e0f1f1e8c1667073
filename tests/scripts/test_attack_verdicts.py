"""The table of `scripts/bench attacks`: shares of the honest gain, and whether its bars are met."""

from __future__ import annotations

import pytest

from scripts.benchmarks.attacks.kinds import SIGN_FLIP
from scripts.benchmarks.attacks.measure import Plan
from scripts.benchmarks.attacks.swarm import Cell, Outcome
from scripts.benchmarks.attacks.verdicts import Kept, Row, attack_table, kept, verdicts

ALONE = Cell(None, 5, 0, "none")
UNDEFENDED, AUDITED = Cell(SIGN_FLIP, 5, 3, "none"), Cell(SIGN_FLIP, 5, 3, "audits")
ROW = Row("sign flip", True, 3, 8, {"none": [(UNDEFENDED, ALONE)], "audits": [(AUDITED, ALONE)]})


def outcomes(undefended: float, audited: float, *weight: float) -> dict[str, Outcome]:
    """Losses after runs that begin at 3 and reach 1 with honest peers alone."""
    return {
        ALONE.name: Outcome(3.0, 1.0),
        UNDEFENDED.name: Outcome(3.0, undefended, (0.375, 0.375)),
        AUDITED.name: Outcome(3.0, audited, weight),
    }


@pytest.mark.parametrize(
    ("loss", "weight", "expected"),
    [
        (1.0, (), Kept(1.0, 0.0, 0)),
        (2.0, (0.1, 0.2, 0.0, 0.0), Kept(0.5, 0.2, 2)),
        (5.0, (0.1, 0.0, 0.1), Kept(-1.0, 0.1, None)),
    ],
)
def test_what_is_kept(loss: float, weight: tuple[float, ...], expected: Kept) -> None:
    assert kept(Outcome(3.0, loss, weight), Outcome(3.0, 1.0)) == expected


def test_the_bars_are_met() -> None:
    found = outcomes(1.5, 1.1, 0.1, 0.0)
    assert [line.startswith("- met") for line in verdicts([ROW], found)] == [True] * 3
    assert "| sign flip | 3 of 8 | 75% | – | 95% | 10% | 1 |" in attack_table([ROW], found)


def test_the_bars_are_missed() -> None:
    late = outcomes(1.5, 1.3, *[0.1] * 11, 0.0)
    assert [line.startswith("- met") for line in verdicts([ROW], late)] == [True, False, False]
    harmless = outcomes(1.0, 1.0, 0.1, 0.1)
    assert [line.startswith("- met") for line in verdicts([ROW], harmless)] == [False, True]


def test_the_lowest_of_several_seeds_is_shown_where_it_differs() -> None:
    other, alone = Cell(SIGN_FLIP, 5, 3, "audits", 2), Cell(None, 5, 0, "none", 2)
    row = Row("sign flip", True, 3, 8, {"audits": [(AUDITED, ALONE), (other, alone)]})
    found = outcomes(1.5, 1.0, 0.0) | {other.name: Outcome(3.0, 1.2), alone.name: Outcome(3.0, 1.0)}
    assert "| sign flip | 3 of 8 | – | – | 95% (90%) | 0% | 0 |" in attack_table([row], found)


def test_a_plan_has_each_attack_at_once_and_by_sleepers() -> None:
    rows = Plan(["3/8", "7/16"], ["none", "audits"], [1, 2], "4-bit", "bigram").rows()
    assert len(rows) == 2 * (11 + 4) + 1 + 0, "the flood has a size of its own"
    assert all(len(cells) == 2 for row in rows for cells in row.cells.values())
    names = {cell.name for row in rows for cells in row.cells.values() for pair in cells for cell in pair}
    pairs = {cell for row in rows for cells in row.cells.values() for pair in cells for cell in pair}
    assert len(names) == len(pairs)
