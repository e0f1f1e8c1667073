"""Chats that do not fit into a sample lose exchanges at their start, or are dropped; all of it is counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.dataset.pack import Document
from coordinator.dataset.records import Chat, Message, Record, Text
from coordinator.dataset.rendering import too_long
from coordinator.dataset.rendering.counts import RenderCounts
from coordinator.dataset.rendering.render import Rendered, Renderer
from coordinator.dataset.rendering.too_long import TooLong, documents, exchanges_of
from coordinator.dataset.rows.row import BadRow
from tests.coordinator.dataset.rendering.test_render import renderer

SYSTEM = Message("system", "Be brief.")


def exchange(number: int) -> tuple[Message, Message]:
    return Message("user", f"question {number}"), Message("assistant", f"answer {number}")


LONG = Chat((SYSTEM, *exchange(1), *exchange(2), *exchange(3)), where="d.jsonl:1")


def kept(
    folder: Path, records: list[Record], length: int, policy: TooLong = "trim"
) -> tuple[list[str], RenderCounts]:
    counts = RenderCounts()
    here = renderer(folder)
    found = documents(here, records, length, policy, counts)
    return [here.preview(document) for document in found if document is not None], counts


def test_a_chat_that_is_too_long_loses_exchanges_at_its_start(tmp_path: Path) -> None:
    whole = len(renderer(tmp_path).render(LONG).input_ids)
    (text,), counts = kept(tmp_path, [LONG], whole - 1)
    assert "Be brief." in text
    assert "question 1" not in text
    assert "⟦answer 2<|im_end|>⟧" in text
    assert "⟦answer 3<|im_end|>⟧" in text
    assert (counts.trimmed, counts.trimmed_turns, counts.dropped) == (1, 2, 0)
    assert counts.trimmed_tokens == len("user\nquestion 1\nassistant\nanswer 1\n") + 4


def test_a_very_long_chat_is_trimmed_without_being_encoded_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = Chat(tuple(message for number in range(300) for message in exchange(number)), where="d.jsonl:1")
    whole, expected = kept(tmp_path, [long, LONG], 300)
    encoded: list[int] = []
    encode = Renderer.encode

    def watched(self: Renderer, texts: list[Rendered]) -> list[Document | BadRow]:
        encoded.extend(len(text.text) for text in texts)
        return encode(self, texts)

    monkeypatch.setattr(Renderer, "encode", watched)
    monkeypatch.setattr(too_long, "LONG_CHARACTERS", 400)
    parts, counts = kept(tmp_path, [long, LONG], 300)
    assert max(encoded) < 1000
    assert parts == whole
    assert (counts.trimmed, counts.trimmed_turns) == (expected.trimmed, expected.trimmed_turns)
    assert counts.trimmed_tokens == expected.trimmed_tokens


def test_a_chat_whose_last_exchange_does_not_fit_is_dropped(tmp_path: Path) -> None:
    texts, counts = kept(tmp_path, [LONG, Text("kept")], 20)
    assert texts == ["⟦kept<|im_end|>⟧"]
    assert (counts.trimmed, counts.dropped) == (0, 1)
    assert counts.dropped_tokens == len(renderer(tmp_path).render(LONG).input_ids)


def test_a_chat_that_is_too_long_is_dropped_where_the_spec_says_so(tmp_path: Path) -> None:
    whole = len(renderer(tmp_path).render(LONG).input_ids)
    assert kept(tmp_path, [LONG], whole, "drop")[0] != []
    texts, counts = kept(tmp_path, [LONG], whole - 1, "drop")
    assert texts == []
    assert (counts.dropped, counts.dropped_tokens) == (1, whole)


def test_exchanges_without_a_trained_turn_are_not_what_remains(tmp_path: Path) -> None:
    untrained = Message("assistant", "answer 3", trained=False)
    chat = Chat((SYSTEM, *exchange(1), *exchange(2), Message("user", "question 3"), untrained))
    texts, _ = kept(tmp_path, [chat], len(renderer(tmp_path).render(chat).input_ids) - 1)
    assert ["⟦answer 2<|im_end|>⟧" in text for text in texts] == [True]
    assert "⟦answer 3" not in texts[0]


def test_text_is_not_cut_here(tmp_path: Path) -> None:
    texts, counts = kept(tmp_path, [Text("long " * 100)], 20)
    assert len(texts[0]) > 500
    assert (counts.trimmed, counts.dropped) == (0, 0)


@pytest.mark.parametrize(
    ("roles", "opening", "sizes"),
    [
        ("system user assistant", 1, [2]),
        ("user assistant user assistant", 0, [2, 2]),
        ("developer user user assistant tool assistant user assistant", 1, [5, 2]),
        ("user assistant user", 0, [3]),
    ],
)
def test_an_exchange_is_a_question_and_all_turns_that_answer_it(
    roles: str, opening: int, sizes: list[int]
) -> None:
    chat = Chat(tuple(Message(role, "x") for role in roles.split()))
    opens, exchanges = exchanges_of(chat)
    assert len(opens) == opening
    assert [len(turns) for turns in exchanges] == sizes


def test_a_text_of_one_token_is_counted(tmp_path: Path) -> None:
    texts, counts = kept(tmp_path, [Text("<|im_end|>", "d.jsonl:1"), Text("a", "d.jsonl:2")], 100)
    assert (len(texts), counts.short, counts.methods) == (1, 1, {"text": 1})
    whole = RenderCounts()
    whole.merge(counts)
    assert whole.report("tokenizer").short == 1
