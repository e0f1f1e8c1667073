"""Each row of the table of attention and packing in docs/MODELS.md is what a rehearsal measures."""

from __future__ import annotations

from pathlib import Path

import pytest

from barnraise.contract.spec import Full
from barnraise.rehearsal.known_kinds import KnownKind, known_kind
from barnraise.rehearsal.opening import open_model
from barnraise.rehearsal.outcomes import FollowingTokensSeen
from barnraise.rehearsal.program import Faulty, rehearse
from barnraise.rehearsal.replies import Request
from barnraise.rehearsal.samples import RehearsalSamples
from tests.support.model_kinds import make_kind
from tests.support.tiny import tiny_samples

DOCUMENT = Path(__file__).parents[2] / "docs" / "MODELS.md"
LENGTH = 96
IN_THE_GATE = {"bloom", "gemma2", "gpt2", "gpt_oss", "gptj", "llama", "mamba", "mixtral", "opt"}
"""One of each way to attend: without sdpa, without positions, with offsets, with experts."""


def rows() -> list[tuple[str, str, str]]:
    section = DOCUMENT.read_text(encoding="utf-8").partition("## Attention and packing")[2]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [(row[0], row[1], row[2]) for row in cells if row[0] != "kind"]


def request(**changes: object) -> Request:
    fields: dict[str, object] = {
        "target": Full(), "attention": "auto", "packing": "auto", "sequence_length": LENGTH,
        "isolation_length": LENGTH, "step_length": LENGTH,
    }  # fmt: skip
    return Request.model_validate(fields | changes)


def samples() -> RehearsalSamples:
    return RehearsalSamples.of(tiny_samples(2, LENGTH))


def marked(row: tuple[str, str, str]) -> object:
    marks = () if row[0] in IN_THE_GATE else (pytest.mark.full("further kinds"),)
    return pytest.param(row, id=row[0], marks=marks)


@pytest.mark.parametrize("row", [marked(row) for row in rows()])
def test_a_row_of_the_table(row: tuple[str, str, str], tmp_path: Path) -> None:
    kind, attention, packed = row
    folder = make_kind(kind, tmp_path / "model")
    assert open_model(folder).kind == kind
    found = rehearse(folder, request(), samples())
    assert (found.attention, "yes" if found.packed else "no") == (attention, packed)
    assert known_kind(kind) == KnownKind(found.attention, found.packed)
    assert found.untrained == ()


def test_the_table_has_many_kinds() -> None:
    assert len(rows()) >= 50


def test_an_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Faulty) as refused:
        rehearse(make_kind("bert", tmp_path / "model"), request(), samples())
    assert isinstance(refused.value.fault, FollowingTokensSeen)


def test_an_unknown_kind_gets_what_is_right_for_all() -> None:
    assert known_kind("of-tomorrow") == KnownKind("eager", packed=False)
