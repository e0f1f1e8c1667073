"""Suggestions for keys that other tools use, or that are in the wrong table."""

from __future__ import annotations

import pytest

from barnraise.contract.spec import RunSpec
from barnraise.contract.spec_file import parse_spec
from barnraise.contract.synonyms import SYNONYMS
from barnraise.core.errors import SpecError
from barnraise.core.suggestions import setting_paths

SMALLEST = 'name = "barn"\n[data]\nsource = "x"\n'


def problem_of(added: str) -> str:
    with pytest.raises(SpecError) as caught:
        parse_spec(SMALLEST + added)
    return caught.value.problem


@pytest.mark.parametrize("name", SYNONYMS)
def test_a_synonym_names_existing_settings_and_is_not_one_itself(name: str) -> None:
    paths = setting_paths(RunSpec)
    assert set(SYNONYMS[name]) <= set(paths)
    assert name not in {path.rpartition(".")[2] for path in paths}


@pytest.mark.parametrize("name", SYNONYMS)
def test_a_synonym_leads_to_its_setting_from_any_table(name: str) -> None:
    table, _, setting = SYNONYMS[name][0].rpartition(".")
    with pytest.raises(SpecError) as caught:
        parse_spec(f"{name} = 1\n{SMALLEST}")
    top = setting if not table else SYNONYMS[name][0]
    assert f"unknown key `{name}` (did you mean `{top}`?)" in caught.value.problem


@pytest.mark.parametrize(
    ("added", "hint"),
    [
        ("[train.inner]\nlearning_rate = 3e-4", "did you mean `lr`?"),
        ("[train]\nlearning_rate = 3e-4", "did you mean `train.inner.lr`?"),
        ('[outer]\nkind = "sgd"\nlearning_rate = 3e-4', "did you mean `lr`?"),
        ('[outer]\nkind = "sgd"\nadam_beta1 = 0.9', "did you mean `train.inner.beta1`?"),
        ('[outer]\nkind = "adamw"\nadam_beta1 = 0.9', "did you mean `beta1`?"),
        ('[train.target]\nkind = "lora"\nr = 8', "did you mean `rank`?"),
        ("[train]\nlora_r = 8", "did you mean `train.target.rank`?"),
        ('[codec]\nkind = "dense"\nblock_size = 8', "did you mean `block`?"),
        ("block_size = 8", "did you mean `sequence_length`?"),
        ("[train]\nlearnin_rate = 3e-4", "did you mean `train.inner.lr`?"),
        ("[train.inner]\nmax_step = 3", "did you mean `round.steps`?"),
        ("[train.inner]\nwarmup_step = 3", "did you mean `warmup_steps`?"),
    ],
)
def test_the_setting_of_the_same_table_comes_first(added: str, hint: str) -> None:
    assert hint in problem_of(added)


@pytest.mark.parametrize(
    ("added", "hint"),
    [
        ("[train]\nrank = 8", "did you mean `train.target.rank`?"),
        ("[train]\nlr = 8", "did you mean `train.inner.lr` or `outer.lr`?"),
        ("[round]\nbatch = 8", "did you mean `train.batch`?"),
        ("optimizer = 8", "did you mean `train.inner.optimizer`?"),
        (
            '[outer]\nkind = "adamw"\nnesterov = true',
            "it belongs to another kind of `outer`; known",
        ),
        ('[codec]\nkind = "raw"\nbits = 4', "it belongs to another kind of `codec`; known"),
    ],
)
def test_a_setting_in_the_wrong_table_is_suggested_with_its_table(added: str, hint: str) -> None:
    assert hint in problem_of(added)
