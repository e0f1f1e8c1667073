"""Each row of the table of attention and packing in docs/MODELS.md is what a rehearsal measures."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from barnraise.contract.spec import Full
from barnraise.core.errors import ModelUnusable
from barnraise.rehearsal.kinds import check_kind
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
IN_THE_GATE = {"bert", "bloom", "gemma2", "gpt2", "gpt_oss", "gptj", "llama", "mamba", "mixtral", "opt"}
"""One of each way to attend: both ways, without sdpa, without positions, with offsets, with experts."""
CHOOSING = {
    "afmoe", "axk2", "deepseek_v32", "deepseek_v4", "ernie4_5_moe", "glm_moe_dsa", "hrm_text", "hy_v4",
    "laguna", "trocr",
}  # fmt: skip
"""Kinds with parameters that no gradient reaches: they choose experts or tokens, or read an image."""
OF_THIS_VERSION = {*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES}
"""Kinds of the installed transformers: Python 3.10 has an older one, which lacks some."""


def cells(heading: str) -> list[list[str]]:
    """The rows of a table of the document, without its header."""
    text = DOCUMENT.read_text(encoding="utf-8").partition(heading)[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[2:]]


def rows() -> list[tuple[str, str, str]]:
    return [(row[0], row[1], row[2]) for row in cells("| kind | attention | packed |")]


def groups() -> dict[str, list[str]]:
    """The kinds without a row, by group."""
    found = {name: kinds.split(", ") for name, _, kinds in cells("| group | answer | kinds |")}
    return {name: [kind for kind in kinds if kind in OF_THIS_VERSION] for name, kinds in found.items()}


def request(**changes: object) -> Request:
    fields: dict[str, object] = {
        "target": Full(), "attention": "auto", "packing": "auto", "sequence_length": LENGTH,
        "isolation_length": LENGTH, "step_length": LENGTH,
    }  # fmt: skip
    return Request.model_validate(fields | changes)


def samples() -> RehearsalSamples:
    return RehearsalSamples.of(tiny_samples(2, LENGTH))


def marked(kind: str, value: object) -> object:
    marks = () if kind in IN_THE_GATE else (pytest.mark.full("further kinds"),)
    return pytest.param(value, id=kind, marks=marks)


@pytest.mark.parametrize("row", [marked(row[0], row) for row in rows() if row[0] in OF_THIS_VERSION])
def test_a_row_of_the_table(row: tuple[str, str, str], tmp_path: Path) -> None:
    kind, attention, packed = row
    folder = make_kind(kind, tmp_path / "model")
    assert open_model(folder).kind == kind
    found = rehearse(folder, request(), samples())
    assert (found.attention, "yes" if found.packed else "no") == (attention, packed)
    assert known_kind(kind) == KnownKind(found.attention, found.packed)
    assert bool(found.untrained) == (kind in CHOOSING)


def test_the_tables_have_each_kind_of_causal_language_model_once() -> None:
    listed = [row[0] for row in rows()] + [kind for kinds in groups().values() for kind in kinds]
    assert len(listed) == len(set(listed))
    assert set(listed) >= OF_THIS_VERSION


@pytest.mark.parametrize("kind", [marked(kind, kind) for kind in groups()["sees all"]])
def test_a_kind_that_sees_all_tokens_is_refused(kind: str, tmp_path: Path) -> None:
    with pytest.raises(Faulty) as refused:
        rehearse(make_kind(kind, tmp_path / "model"), request(), samples())
    assert isinstance(refused.value.fault, FollowingTokensSeen)


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        *((kind, "is an encoder-decoder") for kind in groups()["encoder-decoder"]),
        *((kind, "takes other inputs than text") for kind in groups()["other inputs"]),
    ],
)
def test_a_kind_with_another_input_is_refused(kind: str, problem: str, tmp_path: Path) -> None:
    parts: dict[str, object] = {"vision_config": {}} if kind.startswith("gemma4") else {}
    AutoConfig.for_model(kind, **parts).save_pretrained(tmp_path)
    with pytest.raises(ModelUnusable, match=problem):
        check_kind(tmp_path)


def test_an_unknown_kind_gets_what_is_right_for_all() -> None:
    assert known_kind("of-tomorrow") == KnownKind("eager", packed=False)
