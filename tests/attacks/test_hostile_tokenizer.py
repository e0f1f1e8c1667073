"""A base model or checkpoint whose tokenizer attacks the machines that open it.

Its settings name any class of transformers, code and other files; it pads a text to gigabytes, or replaces a
character by a book.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unicodedata import normalize

import pytest
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers, processors

from barnraise.core.errors import DatasetError
from barnraise.models.model_config import MAX_JSON_BYTES
from barnraise.models.tokenizer_files import load_tokenizer, reduced_settings
from coordinator.dataset.records import Text
from coordinator.dataset.rendering.render import Renderer
from tests.support.tiny import make_tiny_model, make_tiny_tokenizer

KNOWN = {
    "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|im_start|>", "eos_token": "<|im_end|>",
    "model_max_length": 1000, "add_prefix_space": False, "chat_template": "{{ messages }}",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_tiny_model(tmp_path / "model")


def settings(folder: Path, **changes: Any) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit(folder: Path, change: Callable[[Tokenizer], None]) -> None:
    path = str(folder / "tokenizer.json")
    tokenizer = Tokenizer.from_file(path)
    change(tokenizer)
    tokenizer.save(path)


@pytest.mark.parametrize(
    "name",
    [
        "AutoModelForCausalLM", "LlamaForCausalLM", "AutoTokenizer", "RagTokenizer", "LlamaConfig", "Trainer",
        "pipeline", "nothing at all", "x" * 1000, "__doc__", ["PreTrainedTokenizerFast"], {"a": 1}, 5,
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("place", ["tokenizer_config.json", "config.json"])
def test_a_class_that_is_no_tokenizer_s_is_not_loaded(place: str, name: object, folder: Path) -> None:
    path = folder / place
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tokenizer_class": name}))
    tokenizer = load_tokenizer(folder)
    assert tokenizer("a").input_ids == tokenizer.backend_tokenizer.encode("a").ids
    assert tokenizer.eos_token == "<|im_end|>"


@pytest.mark.parametrize(
    "changes",
    [
        {"auto_map": {"AutoTokenizer": [None, "evil--x.Y"]}}, {"auto_map": ["evil--x.Y", None]},
        {"auto_map": 5}, {"vocab_file": "/etc/passwd"}, {"tokenizer_file": "/etc/passwd"},
        {"tokenizer_object": 5}, {"trust_remote_code": True}, {"gguf_file": "x.gguf"}, {"name_or_path": "/x"},
        {"processor_class": "X"}, {"padding": "max_length", "max_length": 10**9}, {"_commit_hash": "x"},
    ],
    ids=str,
)  # fmt: skip
def test_settings_that_name_code_or_files_are_left_out(changes: dict[str, Any], folder: Path) -> None:
    before = load_tokenizer(folder)("abc").input_ids
    settings(folder, **changes)
    assert (
        not changes.keys()
        & reduced_settings(json.loads((folder / "tokenizer_config.json").read_text())).keys()
    )
    assert load_tokenizer(folder)("abc").input_ids == before


def test_what_a_tokenizer_needs_is_kept(folder: Path) -> None:
    assert reduced_settings(KNOWN) == KNOWN
    tokenizer = load_tokenizer(folder)
    assert tokenizer.name_or_path == str(folder)
    assert tokenizer.chat_template, "it is in a file of its own"
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text("{{ tools }}")
    assert load_tokenizer(folder).chat_template.keys() == {"default", "tool_use"}


def test_a_text_is_neither_padded_nor_cut(folder: Path) -> None:
    def padded(tokenizer: Tokenizer) -> None:
        tokenizer.enable_padding(length=10**6)
        tokenizer.enable_truncation(1)

    edit(folder, padded)
    assert len(load_tokenizer(folder)("abc").input_ids) == 3


LONG = "x" * 100_000


def charsmap(text: str) -> normalizers.Precompiled:
    """SentencePiece's table, with a trie that finds nothing and one text to put in."""
    return normalizers.Precompiled(struct.pack("<I", 4) + bytes(4) + text.encode() + bytes(1))


def test_a_table_of_characters_with_texts_of_unicode_is_taken(folder: Path) -> None:
    def converted(tokenizer: Tokenizer) -> None:
        replaced = normalizers.Replace(Regex(" {2,}"), "▁")
        tokenizer.normalizer = normalizers.Sequence([charsmap(normalize("NFKC", "\ufdfa")), replaced])
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()

    edit(folder, converted)
    assert load_tokenizer(folder)


@pytest.mark.parametrize(
    "part",
    [
        normalizers.Replace("a", LONG),
        normalizers.Replace(Regex(""), LONG),
        normalizers.Prepend(LONG),
        normalizers.Sequence([normalizers.Replace("a", "aa")] * 40),  # 2^40 times as long
        normalizers.Sequence([normalizers.Sequence([normalizers.Replace("a", "aaa")] * 5)]),
        normalizers.Sequence([normalizers.ByteLevel()] * 40),  # each writes two characters for "é"
        normalizers.Sequence([normalizers.BertNormalizer()] * 40),
        charsmap(LONG),
        pre_tokenizers.Sequence([pre_tokenizers.ByteLevel(use_regex=False)] * 40),
    ],
    ids=lambda found: type(found).__name__,
)
def test_a_text_does_not_grow_without_bound(part: Any, folder: Path) -> None:
    def grows(tokenizer: Tokenizer) -> None:
        if isinstance(part, normalizers.Normalizer):
            tokenizer.normalizer = part
        else:
            tokenizer.pre_tokenizer = part

    edit(folder, grows)
    with pytest.raises(ValueError, match="times as long"):
        load_tokenizer(folder)


def test_known_normalizers_are_taken(folder: Path) -> None:
    def usual(tokenizer: Tokenizer) -> None:
        tokenizer.normalizer = normalizers.Sequence(
            [
                normalizers.Prepend("▁"), normalizers.Replace(" ", "▁"), normalizers.NFKC(),
                normalizers.Replace("``", '"'), normalizers.Replace(Regex(" {2,}"), " "),
            ]
        )  # fmt: skip

    edit(folder, usual)
    assert load_tokenizer(folder)("abc").input_ids


def test_special_tokens_that_are_added_are_bounded(folder: Path) -> None:
    def adds(tokenizer: Tokenizer) -> None:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=["<|im_end|>"] * 50_000 + ["$A"], special_tokens=[("<|im_end|>", 2)]
        )

    edit(folder, adds)
    with pytest.raises(ValueError, match="special tokens"):
        load_tokenizer(folder)


def test_a_pattern_that_gives_up_is_the_base_model_s_fault() -> None:
    tokenizer = make_tiny_tokenizer()
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"^(([a ])+)+\d$"), "isolated")
    renderer = Renderer(tokenizer, frozenset({2}))
    with pytest.raises(DatasetError, match="tokenizer fails"):
        renderer.render(Text("a" * 40, where="data.txt:1"))


def test_a_template_of_megabytes_is_refused(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text(" " * (MAX_JSON_BYTES + 1))
    with pytest.raises(ValueError, match="chat_template"):
        load_tokenizer(folder)
