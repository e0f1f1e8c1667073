"""Rendering records to tokens, and which of them are trained on."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from barnraise.core.errors import DatasetError
from coordinator.dataset.pack import Document
from coordinator.dataset.records import Chat, Message, Record, Text
from coordinator.dataset.rendering.chat_templates import builtin_text
from coordinator.dataset.rendering.render import Rendered, Renderer
from tests.support.datasets import CHATML, built, questions, run_spec, save_tokenizer, write_lines

FORGETFUL = (  # writes "thoughts" into the last answer only, as some reasoning models' templates do
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if loop.last and m['role'] == 'assistant' %}hm. {% endif %}MARK{{ m['content'] }}<|im_end|>END\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TWO_TURNS = Chat(
    (
        Message("system", "Be brief."),
        Message("user", "2+2?"),
        Message("assistant", " four"),
        Message("user", "Why? <|im_end|>"),
        Message("assistant", "\nBecause."),
    ),
    where="chat",
)


def renderer(folder: Path, template: str | None = CHATML) -> Renderer:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(save_tokenizer(folder, template))
    return Renderer(tokenizer, frozenset({tokenizer.eos_token_id}))


def text_of(renderer: Renderer, record: Record) -> Rendered:
    found = renderer.text_of(record)
    assert isinstance(found, Rendered), found
    return found


def test_answers_are_trained_on_with_their_end_of_turn_and_nothing_else(tmp_path: Path) -> None:
    chat = renderer(tmp_path)
    assert chat.preview(chat.render(TWO_TURNS)) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\n2+2?<|im_end|>\n"
        "<|im_start|>assistant\n⟦ four<|im_end|>⟧\n"
        "<|im_start|>user\nWhy? <|im_end|><|im_end|>\n"
        "<|im_start|>assistant\n⟦\nBecause.<|im_end|>⟧\n"
    )


def test_a_tokenizer_without_a_template_gets_the_plain_one(tmp_path: Path) -> None:
    plain = renderer(tmp_path, None)
    assert plain.template == builtin_text("plain")
    asked = Chat((Message("user", "Häuser?"), Message("assistant", "Houses 🏠")))
    assert plain.preview(plain.render(asked)) == "User: Häuser?\n\nAssistant:⟦ Houses 🏠<|im_end|>⟧\n\n"


def test_text_is_trained_on_whole_and_ends(tmp_path: Path) -> None:
    text = renderer(tmp_path)
    document = text.render(Text("Once."))
    assert text.preview(document) == "⟦Once.<|im_end|>⟧"
    assert document.input_ids.dtype == np.int32


def test_answers_are_found_where_a_template_rewrites_them_once_others_follow(tmp_path: Path) -> None:
    bare = renderer(tmp_path / "bare", FORGETFUL.replace("MARK", "").replace("END", ""))
    assert text_of(bare, TWO_TURNS).method == "search"
    assert bare.preview(bare.render(TWO_TURNS)).endswith(
        "assistant\n⟦ four<|im_end|>⟧\n"
        "<|im_start|>user\nWhy? <|im_end|><|im_end|>\n"
        "<|im_start|>assistant\n⟦hm. \nBecause.<|im_end|>⟧\n"
    )
    marks = FORGETFUL.replace("MARK", "{% generation %}").replace("END", "{% endgeneration %}")
    marked = renderer(tmp_path / "marked", marks)
    assert text_of(marked, TWO_TURNS).method == "marks"
    assert "hm. ⟦ four<|im_end|>⟧" in marked.preview(marked.render(Chat(TWO_TURNS.messages[1:3])))
    assert "assistant\nhm. ⟦\nBecause.<|im_end|>⟧" in marked.preview(marked.render(TWO_TURNS))


def test_an_answer_that_a_template_changes_is_refused(tmp_path: Path) -> None:
    bare = FORGETFUL.replace("MARK", "").replace("END", "")
    counting = bare.replace("m['content']", "m['content'] | length")
    with pytest.raises(DatasetError, match="differently once other turns follow"):
        renderer(tmp_path, counting).render(TWO_TURNS)


def test_a_renderer_can_be_pickled_and_encodes_batches(tmp_path: Path) -> None:
    here = renderer(tmp_path)
    there: Renderer = pickle.loads(pickle.dumps(here))  # noqa: S301 -- our own bytes
    records: list[Record] = [Text("Once."), TWO_TURNS, Text("Twice.<|im_end|>")]
    encoded = there.encode([text_of(there, record) for record in records])
    for found, record in zip(encoded, records, strict=True):
        assert isinstance(found, Document)
        assert here.preview(found) == here.preview(here.render(record))


def test_a_template_that_refuses_a_chat_is_reported(tmp_path: Path) -> None:
    strict = renderer(tmp_path, "{{ raise_exception('no system here') }}")
    with pytest.raises(DatasetError, match=r"chat: .*no system here"):
        strict.render(TWO_TURNS)


def test_an_answer_that_does_not_end_is_refused(tmp_path: Path) -> None:
    save_tokenizer(tmp_path, eos="<|end|>")
    source = write_lines(tmp_path / "d.jsonl", questions(1))
    with pytest.raises(DatasetError, match="would not learn to stop"):
        built(run_spec(source), tmp_path)
    # The model's generation config may name further end tokens.
    stop = PreTrainedTokenizerFast.from_pretrained(tmp_path).convert_tokens_to_ids("<|im_end|>")
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [stop]}))
    assert "⟦It is the number 0.<|im_end|>⟧" in built(run_spec(source), tmp_path)[0].preview


def test_a_tokenizer_without_an_end_of_sequence_is_refused(tmp_path: Path) -> None:
    save_tokenizer(tmp_path, eos=None)
    with pytest.raises(DatasetError, match="no end-of-sequence token"):
        built(run_spec(write_lines(tmp_path / "d.jsonl", questions(1))), tmp_path)


def test_names_that_a_template_does_not_write_are_ignored(tmp_path: Path) -> None:
    chat = Chat((Message("user", "2+2?", name="ada"), Message("assistant", "four")))
    assert text_of(renderer(tmp_path / "plain"), chat).ignored == ("name",)
    naming = CHATML.replace("{{ m['content'] }}", "{{ m['name'] }}: {{ m['content'] }}")
    assert text_of(renderer(tmp_path / "naming", naming), chat).ignored == ()


def test_texts_alone_publish_no_template_of_ours(tmp_path: Path) -> None:
    save_tokenizer(tmp_path, None)
    texts = write_lines(tmp_path / "texts.jsonl", [{"text": f"Text {i}."} for i in range(4)])
    assert built(run_spec(texts, held_out=0), tmp_path)[0].chat_template is None
    chats = write_lines(tmp_path / "chats.jsonl", questions(4))
    assert built(run_spec(chats, held_out=0), tmp_path)[0].chat_template == builtin_text("plain")
