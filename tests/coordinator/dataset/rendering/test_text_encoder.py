"""Encoding plain texts: long ones in parts, and special tokens once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from coordinator.dataset.rendering import text_encoder
from coordinator.dataset.rendering.text_encoder import TextEncoder, parts

TEXT = Path(text_encoder.__file__).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """A byte-level tokenizer trained on some source code, which writes `<s>` before a text."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        [TEXT],
        trainers.BpeTrainer(
            vocab_size=600, initial_alphabet=alphabet, special_tokens=["<s>", "</s>"], show_progress=False
        ),
    )
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>")


@given(st.text("ab \n", max_size=60), st.integers(4, 20))
def test_parts_are_the_text(text: str, characters: int) -> None:
    found = list(parts(text, characters))
    assert "".join(found) == text
    assert all(0 < len(part) <= characters for part in found) or not text


def test_a_long_text_has_the_tokens_of_the_whole(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (whole,) = TextEncoder(tokenizer).encode([TEXT])
    monkeypatch.setattr(text_encoder, "PART_CHARACTERS", 300)
    monkeypatch.setattr(text_encoder, "GROUP_CHARACTERS", 700)
    monkeypatch.setattr(parts, "__defaults__", (300,))
    short, long, end = TextEncoder(tokenizer).encode(["a", TEXT, "b"])
    assert long.input_ids.tolist() == whole.input_ids.tolist()
    assert long.trained.all()
    assert [tokenizer.decode(document.input_ids) for document in (short, end)] == ["<s>a</s>", "<s>b</s>"]


@pytest.mark.parametrize("size", [1, 1 << 16])
def test_special_tokens_stand_once(tokenizer: Any, size: int) -> None:
    (document,) = TextEncoder(tokenizer).encode(["<s><s>" + "a " * size + "</s></s>"])
    ids = document.input_ids.tolist()
    assert ids.count(0) == ids.count(1) == 1
    assert (ids[0], ids[-1]) == (0, 1)
