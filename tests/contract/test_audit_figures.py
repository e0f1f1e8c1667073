"""Scores: harm in comparison with what a round's contributions usually change."""

from __future__ import annotations

import pytest

from barnraise.contract.audit_figures import MOST, Figures, Reference, reference_of
from barnraise.contract.evidence import FLOOR, UNIT
from barnraise.contract.verdict import Verdict
from tests.support.parts import ADA, HASH_A, RUN


def figures(change: int, error: int = 10, usual: int = -1000, scale: int = 1000, **other: object) -> Figures:
    fields = {"round": 3, "blob": HASH_A, "change": change, "error": error, "usual": usual, "scale": scale}
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


def test_a_verdict_follows_from_its_figures_alone() -> None:
    fields = {"run": RUN, "key": ADA.public, "claim": "harm", "wealth": 1.0, "recent": 0.1, "at": 5}
    guilty = Verdict.model_validate(fields | {"figures": (figures(1000),) * 8})
    assert guilty.follows
    assert not Verdict.model_validate(fields | {"figures": (figures(1000),) * 5}).follows
    assert not Verdict.model_validate(fields | {"figures": (figures(-5),) * 12}).follows
    assert len(guilty.payload) < 2500
