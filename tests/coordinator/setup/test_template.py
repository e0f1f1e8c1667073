"""The run.toml that `coordinator new` writes: valid as it is, without comments, and with its defaults set."""

from __future__ import annotations

import re

import pytest

from barnraise.contract.spec import AdamW, Full, InnerSpec, Lora, Raw, RunSpec, Sparse, TrainSpec
from barnraise.contract.spec_file import parse_spec
from coordinator.setup.practice import outer_step, starting_rate
from coordinator.setup.settings import Table, tables_of
from coordinator.setup.template import DEFAULT_WIDTH, WIDTH, template

TEXT = template("barn", Lora(), 4)
DEFAULT = re.compile(r"^# (\w+ = .*)$")
"""A line that shows a default."""


def without_comments(text: str) -> str:
    lines = [line.partition(" # ")[0] for line in text.splitlines() if not line.startswith("#")]
    return "\n".join(lines)


def test_the_file_sets_what_differs_from_the_defaults() -> None:
    expected = RunSpec.model_validate_json(
        '{"name": "barn", "model": {"licence": "apache-2.0"}, "data": {"source": "data.jsonl"},'
        ' "round": {"grace": 60}}'
    )
    step = outer_step(Lora(), 4)
    inner = InnerSpec(lr=2e-3)
    expected = expected.model_copy(update={"outer": step, "train": TrainSpec(inner=inner)})
    assert parse_spec(TEXT) == expected
    assert parse_spec(without_comments(TEXT)) == expected


@pytest.mark.parametrize("volunteers", [1, 4, 8])
@pytest.mark.parametrize("target", [Lora(), Full()])
def test_the_file_suits_target_and_volunteers(target: Lora | Full, volunteers: int) -> None:
    spec = parse_spec(template("barn", target, volunteers))
    assert spec.train.target == target
    assert spec.outer == outer_step(target, volunteers)
    assert spec.train.inner.lr == starting_rate(target, DEFAULT_WIDTH, volunteers)


@pytest.mark.parametrize(("volunteers", "rate"), [(1, 1e-3), (3, 1e-3), (4, 2e-3), (8, 2e-3)])
def test_many_volunteers_start_at_a_higher_rate(volunteers: int, rate: float) -> None:
    assert starting_rate(Lora(), DEFAULT_WIDTH, volunteers) == rate
    assert starting_rate(Full(), DEFAULT_WIDTH, volunteers) == pytest.approx(rate / 10)


def test_each_shown_default_is_the_default() -> None:
    lines = TEXT.splitlines()
    pairs = zip(["", *lines], lines, strict=False)
    shown = [line for above, line in pairs if "(unset)" not in line and not above.startswith("# (unset)")]
    assert parse_spec("\n".join(DEFAULT.sub(r"\1", line) for line in shown)) == parse_spec(TEXT)


def test_each_example_of_an_unset_setting_is_valid() -> None:
    spec = parse_spec("\n".join(DEFAULT.sub(r"\1", line) for line in TEXT.splitlines()))
    assert (spec.model.revision, spec.data.revision, spec.round.steps) == ("main", "main", 50)
    assert (spec.round.target_tokens, spec.checkpoint.gguf) == (200_000, "q8_0")


@pytest.mark.parametrize("table", tables_of(RunSpec), ids=lambda table: f"{table.path} {table.kind}")
def test_every_setting_is_in_the_file(table: Table) -> None:
    start = TEXT.index(f"[{table.path}]") if table.path else 0
    text = TEXT[start:].partition("\n[")[0]
    if table.kind and not table.chosen:
        text = text.partition(f'# Instead: kind = "{table.kind}"')[2]
    for setting in table.settings:
        assert re.search(rf"^(#\s+)?{setting.name} = ", text, re.MULTILINE), setting.name


@pytest.mark.parametrize(
    ("kinds", "found"),
    [
        ({"lora": "full"}, lambda spec: spec.train.target == Full()),
        ({"sgd": "adamw", '# method = "diloco"': 'method = "gradient"'}, lambda spec: spec.outer == AdamW()),
        ({"dense": "raw"}, lambda spec: spec.codec == Raw()),
        ({"dense": "sparse"}, lambda spec: spec.codec == Sparse()),
    ],
)
def test_another_kind_takes_one_line(kinds: dict[str, str], found: object) -> None:
    text = template("barn", Lora(), 1)  # for more, the outer step of `sgd` is set
    for old, new in kinds.items():
        text = text.replace(old, new) if "=" in old else text.replace(f'kind = "{old}"', f'kind = "{new}"', 1)
    assert callable(found)
    assert found(parse_spec(text))


def test_the_file_is_short_enough_to_read() -> None:
    lines = TEXT.splitlines()
    assert len(lines) <= 135
    assert max(map(len, lines)) <= WIDTH
