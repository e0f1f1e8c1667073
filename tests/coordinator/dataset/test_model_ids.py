"""Ids of models and tokenizers that do not fit together."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from transformers import PreTrainedTokenizerFast

from barnraise.core.errors import DatasetError, ModelUnusable
from coordinator.dataset.model_ids import ModelIds, Positions, check_length, open_tokenizer
from coordinator.reasons.dataset import BeyondPositions, BuildStep
from tests.support.datasets import built, questions, run_spec, samples_of, save_tokenizer, write_lines

LLAMA = {"model_type": "llama", "vocab_size": 259}
"""A config as large as the tokenizer: 256 bytes and 3 special tokens."""


def model(folder: Path, config: Mapping[str, object] | None = None, **tokens: str) -> Path:
    """A folder with a tokenizer, to which `tokens` are added, and a config."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(save_tokenizer(folder))
    tokenizer.add_special_tokens(tokens)
    tokenizer.save_pretrained(folder)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def ids_of(folder: Path) -> ModelIds:
    return open_tokenizer(folder)[1]


def test_padding_that_was_added_without_resizing_is_replaced(tmp_path: Path) -> None:
    folder = model(tmp_path / "t", LLAMA, pad_token="<pad>")
    ids = ids_of(folder)
    assert ids.vocab_size == 259
    assert ids.pad_id == 257, "end-of-sequence"
    assert ids.highest_id == 259
    result, store = built(run_spec(write_lines(tmp_path / "d.jsonl", questions(9))), folder)
    assert max(int(sample.input_ids.max()) for sample in samples_of(result.index, store)) < 259


def test_a_token_beyond_the_embedding_is_refused_where_the_data_uses_it(tmp_path: Path) -> None:
    folder = model(tmp_path / "t", LLAMA, pad_token="<pad>")
    source = write_lines(tmp_path / "d.jsonl", [*questions(3), {"text": "good"}, {"text": "a <pad> b"}])
    with pytest.raises(DatasetError, match="'<pad>' has the id 259") as caught:
        built(run_spec(source), folder)
    assert f"{source}:5" in caught.value.problem
    assert "resize_token_embeddings" in caught.value.fix


def test_ids_with_holes_and_a_larger_embedding_are_right(tmp_path: Path) -> None:
    folder = save_tokenizer(tmp_path / "t")
    file = folder / "tokenizer.json"
    written = json.loads(file.read_text())
    written["model"]["vocab"]["e"] = 358
    file.write_text(json.dumps(written))
    (folder / "config.json").write_text(json.dumps(LLAMA | {"vocab_size": 400}))
    tokenizer, ids = open_tokenizer(folder)
    assert len(tokenizer) < ids.highest_id + 1 == 359
    result, store = built(run_spec(write_lines(tmp_path / "d.jsonl", questions(9))), folder)
    assert max(int(sample.input_ids.max()) for sample in samples_of(result.index, store)) == 358
    assert result.index.vocab_size == 400


def test_the_embedding_of_the_weights_counts_where_no_config_has_the_size(tmp_path: Path) -> None:
    folder = model(tmp_path / "t")
    assert ids_of(folder).vocab_size == 259
    save_file({"model.embed_tokens.weight": np.zeros((300, 2), np.float16)}, folder / "model.safetensors")
    assert ids_of(folder).vocab_size == 300


def test_the_text_part_of_a_config_has_the_size(tmp_path: Path) -> None:
    config = {"model_type": "gemma3", "text_config": {"model_type": "gemma3_text", "vocab_size": 300}}
    assert ids_of(model(tmp_path / "t", config)).vocab_size == 300


@pytest.mark.parametrize("named", [258, [258, 256]])
def test_ends_of_sequences_are_those_of_tokenizer_and_configs(tmp_path: Path, named: object) -> None:
    folder = model(tmp_path / "t", LLAMA | {"eos_token_id": named})
    assert ids_of(folder).ends >= {257, 258}
    (folder / "config.json").write_text(json.dumps(LLAMA | {"eos_token_id": 65}))
    assert ids_of(folder).ends == {257}, "a letter ends nothing"
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": named}))
    assert ids_of(folder).ends >= {257, 258}


def test_a_tokenizer_without_an_end_gets_that_of_the_config(tmp_path: Path) -> None:
    folder = save_tokenizer(tmp_path / "t", eos=None)
    (folder / "config.json").write_text(json.dumps(LLAMA | {"eos_token_id": 257}))
    tokenizer, ids = open_tokenizer(folder)
    assert tokenizer.eos_token == "<|im_end|>"
    assert ids.ends == {257}
    assert ids.pad_id == 257


@pytest.mark.parametrize(
    ("config", "positions"),
    [
        ({"model_type": "gpt2", "n_positions": 32}, Positions(32, rotary=False)),
        ({"model_type": "opt", "max_position_embeddings": 32}, Positions(32, rotary=False)),
        ({"model_type": "llama", "max_position_embeddings": 32}, Positions(32, rotary=True)),
        (
            {
                "model_type": "llama",
                "max_position_embeddings": 32,
                "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
            },
            Positions(128, rotary=True),
        ),
        ({"model_type": "bloom"}, None),
        ({"model_type": "mamba"}, None),
    ],
)
def test_positions_are_those_of_the_config(
    tmp_path: Path, config: dict[str, object], positions: Positions | None
) -> None:
    ids = ids_of(model(tmp_path / "t", {"vocab_size": 259, **config}))
    assert ids.positions == positions
    check_length(ids, 32)
    if positions is not None and not positions.rotary:
        with pytest.raises(DatasetError, match="only 32 positions"):
            check_length(ids, 33)
    else:
        check_length(ids, 4096)


def test_documents_beyond_rotary_positions_are_reported(tmp_path: Path) -> None:
    folder = model(tmp_path / "t", LLAMA | {"max_position_embeddings": 32})
    source = write_lines(tmp_path / "d.jsonl", [{"text": "short"}, {"text": "long" * 12}])
    steps: list[BuildStep] = []
    built(run_spec(source, held_out=0), folder, steps.append)
    assert BeyondPositions(49, 32) in steps


def test_a_tokenizer_that_was_not_converted_is_refused(tmp_path: Path) -> None:
    folder = model(tmp_path / "model")
    (folder / "tokenizer.json").rename(folder / "tokenizer.model")
    with pytest.raises(ModelUnusable, match=r"is there as tokenizer\.model alone"):
        open_tokenizer(folder)


@pytest.mark.parametrize("text", ["{", "[]", '{"version": "1.0"}'])
def test_a_broken_tokenizer_is_named(tmp_path: Path, text: str) -> None:
    folder = model(tmp_path / "model")
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    with pytest.raises(ModelUnusable, match=r"tokenizer\.json cannot be read"):
        open_tokenizer(folder)
