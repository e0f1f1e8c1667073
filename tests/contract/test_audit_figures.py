"""Scores: harm in comparison with what a round's contributions usually change."""

from __future__ import annotations

import pytest

from barnraise.contract.audit_figures import MOST, Figures, Reference, reference_of, usual_alignment_of
from barnraise.contract.evidence import FLOOR, UNIT
from barnraise.contract.verdict import Verdict
from tests.support.parts import ADA, HASH_A, RUN


def figures(change: int, error: int = 10, usual: int = -1000, scale: int = 1000, **other: object) -> Figures:
    fields = {
        "round": 3, "blob": HASH_A, "change": change, "error": error, "usual": usual, "scale": scale,
        "alignment": 100_000, "usual_alignment": 100_000,
    }  # fmt: skip
    return Figures.model_validate(fields | other)


@pytest.mark.parametrize(
    ("found", "score"),
    [
        (figures(-1000), FLOOR),
        (figures(0), 0),
        (figures(500), 500),
        (figures(1000), UNIT),
        (figures(MOST), UNIT),
        (figures(500, error=500), 500),
        (figures(500, error=5000), 50),
        (figures(900, usual=800), 100),
        (figures(800, usual=800), 0),
        (figures(0, finding="copy"), UNIT),
        (figures(5, scale=0, error=0), UNIT),
        (figures(0, alignment=0), UNIT),  # noise
        (figures(-300, alignment=0), 800),
        (figures(-500, alignment=0), 0),  # what gains is of use, wherever it points
        (figures(-500, alignment=0, error=400), 0),
        (figures(0, alignment=0, error=400), 625),
        (figures(0, alignment=20_000), 200),
        (figures(0, alignment=26_000), 0),
        (figures(0, alignment=0, usual=0), 0),  # nobody gains anything
        (figures(0, alignment=0, usual=200), FLOOR),
        (figures(0, alignment=-20_000, usual_alignment=20_000), 250),
        (figures(0, alignment=0, usual_alignment=39_999), 99),
        (figures(0, alignment=-100_000, usual_alignment=0), 0),
    ],
)
def test_a_score_is_harm_beyond_the_usual_in_units_of_it(found: Figures, score: int) -> None:
    assert found.score == score


def test_half_of_the_changes_cannot_move_the_reference_out_of_the_range_of_the_others() -> None:
    honest = [-90, -100, -110, -95, -105]
    for false in (MOST, -MOST, 0, 100):
        found = reference_of([*honest, *[false] * 4])
        assert -110 <= found.usual <= -90 or found.usual == false == 0
        assert found.scale <= 110
    assert reference_of([]) == Reference()


def test_the_usual_alignment_is_decided_by_more_than_half_of_at_least_four() -> None:
    assert usual_alignment_of([5, 5, 5]) == 0
    assert usual_alignment_of([-9, 5, 6, 7]) == 5
    assert usual_alignment_of([-9] * 7 + [5] * 9) == 5


def test_a_verdict_follows_from_its_figures_alone() -> None:
    fields = {"run": RUN, "key": ADA.public, "claim": "harm", "wealth": 1.0, "recent": 0.1, "at": 5}
    guilty = Verdict.model_validate(fields | {"figures": (figures(1000),) * 8})
    assert guilty.follows
    assert not Verdict.model_validate(fields | {"figures": (figures(1000),) * 5}).follows
    assert not Verdict.model_validate(fields | {"figures": (figures(-5),) * 12}).follows
    assert len(guilty.payload) < 2500
