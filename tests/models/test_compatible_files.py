"""Configurations are written in the spellings of transformers 4 and 5, and 5 reads both as before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoConfig, AutoTokenizer

from barnraise.models.compatible_files import (
    compatible_config,
    compatible_tokenizer_config,
    special_tokens_map,
)
from barnraise.models.model_files import write_descriptions
from tests.support.kinds import KINDS, make_kind

LLAMA3 = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0}


def test_rotary_settings_are_written_in_both_spellings() -> None:
    found = compatible_config({"rope_parameters": LLAMA3, "dtype": "bfloat16"})
    assert found["rope_theta"] == 5e5
    assert found["rope_scaling"] == {"rope_type": "llama3", "factor": 8.0}
    assert found["rope_parameters"] == LLAMA3
    assert found["dtype"] == found["torch_dtype"] == "bfloat16"
    plain = compatible_config({"rope_parameters": {"rope_type": "default", "rope_theta": 1e5}})
    assert (plain["rope_theta"], plain["rope_scaling"]) == (1e5, None)


def test_rotary_settings_of_each_kind_of_layer() -> None:
    rope = {"full_attention": {**LLAMA3, "rope_theta": 1e6}, "sliding_attention": {"rope_theta": 1e4}}
    found = compatible_config({"text_config": {"rope_parameters": rope}})["text_config"]
    assert (found["rope_theta"], found["rope_local_base_freq"], found["rope_scaling"]["factor"]) == (
        1e6,
        1e4,
        8,
    )


def test_a_config_of_transformers_4_gets_the_new_names() -> None:
    old = {"rope_theta": 1e5, "rope_scaling": None, "torch_dtype": "float16"}
    assert compatible_config(old) == old | {"dtype": "float16"}


def test_a_tokenizer_of_transformers_5_gets_names_that_both_know() -> None:
    new = {
        "tokenizer_class": "TokenizersBackend", "backend": "tokenizers", "is_local": True,
        "extra_special_tokens": ["<a>"], "eos_token": "</s>",
    }  # fmt: skip
    found = compatible_tokenizer_config(new, "{{ messages }}")
    assert found == {
        "tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False,
        "additional_special_tokens": ["<a>"], "eos_token": "</s>", "chat_template": "{{ messages }}",
    }  # fmt: skip
    assert special_tokens_map(found) == {"eos_token": "</s>", "additional_special_tokens": ["<a>"]}
    old = {"tokenizer_class": "LlamaTokenizer", "chat_template": "{{ 1 }}"}
    assert compatible_tokenizer_config(old, None) == old


@pytest.mark.parametrize("name", KINDS)
def test_transformers_5_reads_the_same_config(tmp_path: Path, name: str) -> None:
    base = make_kind(tmp_path / "base", name)
    (tmp_path / "copy").mkdir()
    write_descriptions([base], tmp_path / "copy")
    read, wanted = (
        AutoConfig.from_pretrained(folder, local_files_only=True).to_dict()
        for folder in (tmp_path / "copy", base)
    )
    old = {"rope_theta", "rope_scaling", "rope_local_base_freq", "rotary_pct", "rotary_emb_base"}
    changed = {key for key in {*read, *wanted} if read.get(key) != wanted.get(key)}
    assert changed <= old | {"partial_rotary_factor", "_name_or_path"}


def test_the_template_of_the_run_replaces_that_of_the_tokenizer(tmp_path: Path) -> None:
    base = make_kind(tmp_path / "base", "llama")
    config = json.loads((base / "tokenizer_config.json").read_text())
    (base / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": "{{ 'base' }}"}))
    for name in ("own", "out"):
        (tmp_path / name).mkdir()
    (tmp_path / "own" / "chat_template.jinja").write_text("{{ 'run' }}")
    write_descriptions([tmp_path / "own", base], tmp_path / "out")
    assert (
        json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())["chat_template"] == "{{ 'run' }}"
    )
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out", local_files_only=True)
    wanted = AutoTokenizer.from_pretrained(base, local_files_only=True)
    assert tokenizer.chat_template == "{{ 'run' }}"
    assert tokenizer("a b, c's.<|im_end|>").input_ids == wanted("a b, c's.<|im_end|>").input_ids
    assert tokenizer.special_tokens_map == wanted.special_tokens_map
