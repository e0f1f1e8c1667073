"""The chat templates of families: what of a chat they write, and what is trained on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers.processors import TemplateProcessing

from barnraise.core.errors import DatasetError, SpecError
from coordinator.dataset.records import Chat, Message, Text
from coordinator.dataset.rendering import chat_templates
from coordinator.dataset.rendering.chat_templates import (
    PLAIN,
    ChatTemplate,
    builtin_names,
    builtin_text,
    choose_template,
)
from coordinator.dataset.rendering.fields import accepted_turns, tools_of, turns_of
from coordinator.dataset.rendering.local_templates import learn
from coordinator.dataset.rendering.masks import Marker
from coordinator.dataset.rendering.render import Rendered, Renderer
from coordinator.dataset.rendering.time_limit import TimeLimit
from coordinator.dataset.rows.row import BadRow
from tests.support.family_templates import FAMILIES, family_renderer, family_tokenizer, unmarked

DATA_MD = Path(__file__).parents[4] / "docs" / "DATA.md"
GOLDEN = json.loads((Path(__file__).parent / "golden_chats.json").read_text(encoding="utf-8"))
CALL = {"type": "function", "id": "call_1", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}
TOOL = {"type": "function", "function": {"name": "weather", "description": "of a city", "parameters": {}}}
SYSTEM = Message("system", "Be brief.")
FIRST = (Message("user", "one?"), Message("assistant", "eins."))
SECOND = (Message("user", "two?"), Message("assistant", "zwei."))
CHATS = {
    "plain": Chat((*FIRST, *SECOND)),
    "system": Chat((SYSTEM, *FIRST, *SECOND)),
    "reasoning": Chat(
        (
            FIRST[0],
            Message("assistant", "eins.", reasoning="Easy."),
            SECOND[0],
            Message("assistant", "zwei.", reasoning="Hard."),
        )
    ),
    "tools": Chat(
        (
            Message("user", "Oslo?"),
            Message("assistant", "", tool_calls=(CALL,)),
            Message("tool", "5 degrees", tool_call_id="call_1", name="weather"),
            Message("assistant", "Cold."),
            *SECOND,
        ),
        tools=(TOOL,),
    ),
}


def text_of(renderer: Renderer, chat: Chat) -> Rendered:
    found = renderer.text_of(chat)
    assert isinstance(found, Rendered), found
    return found


def trained_parts(renderer: Renderer, chat: Chat) -> list[str]:
    preview = renderer.preview(renderer.render(chat))
    return [part.split("⟧")[0] for part in preview.split("⟦")[1:]]


def table() -> list[tuple[str, ...]]:
    """The rows of the table of families in docs/DATA.md."""
    section = DATA_MD.read_text(encoding="utf-8").split("| family |")[1].split("\n\n")[0]
    return [tuple(cell.strip() for cell in line.strip("| ").split("|")) for line in section.splitlines()[2:]]


def written(renderer: Renderer, name: str, field: str) -> str:
    found = renderer.text_of(CHATS[name])
    if isinstance(found, BadRow):
        return "bad row"
    if found.ignored.count(field) == 0:
        return "written"
    return "not written" if found.ignored.count(field) == 2 or field == "system" else "of the last answer"


@pytest.mark.parametrize("row", table(), ids=lambda row: row[0])
def test_a_row_of_the_table_of_families(row: tuple[str, ...]) -> None:
    family, method, system, reasoning, tools = row
    renderer = family_renderer(family)
    assert text_of(renderer, CHATS["plain"]).method == method.replace("`", "")
    assert written(renderer, "system", "system") == system
    assert written(renderer, "reasoning", "reasoning_content") == reasoning
    assert written(renderer, "tools", "tool_calls") == tools.replace("trained on", "written")
    answers = trained_parts(renderer, CHATS["plain"])
    assert ["eins." in answers[0], "zwei." in answers[1], len(answers)] == [True, True, 2]
    assert not any(word in part for part in answers for word in ("one?", "two?"))
    if tools == "trained on":
        assert any("weather" in part and "Oslo" in part for part in trained_parts(renderer, CHATS["tools"]))


def test_every_family_is_in_the_table() -> None:
    assert [row[0] for row in table()] == list(FAMILIES)


@pytest.mark.parametrize(("name", "chat"), [(name, chat) for name, chats in GOLDEN.items() for chat in chats])
def test_a_builtin_template_writes_what_its_family_writes(name: str, chat: str) -> None:
    """The golden texts are those of the templates that the families' makers publish."""
    template = ChatTemplate(builtin_text(name), name, {"bos_token": "<s>", "eos_token": "</s>"})
    tools = tools_of(CHATS[chat])
    turns = accepted_turns(template, turns_of(CHATS[chat].messages), tools)
    assert template.apply(turns, tools) == GOLDEN[name][chat]
    assert template.apply_marked(turns, tools)[0] == GOLDEN[name][chat]


@pytest.mark.parametrize("name", [name for name in builtin_names() if name != PLAIN])
def test_the_marks_of_a_builtin_template_enclose_what_follows_its_prompt(name: str) -> None:
    template = ChatTemplate(builtin_text(name), name, {"bos_token": "<s>", "eos_token": "</s>"})
    text, spans = template.apply_marked(turns_of(CHATS["plain"].messages))
    assert ["eins." in text[slice(*spans[0])], "zwei." in text[slice(*spans[1])]] == [True, True]
    assert not unmarked(name).count("generation %}")
    assert ChatTemplate(unmarked(name), "", template.special_tokens).apply(
        turns_of(CHATS["plain"].messages)
    ) == (text)


@pytest.mark.parametrize("family", ["ChatML", "SmolLM2", "Llama 3", "Gemma 3", "Phi-4", "Mistral"])
def test_a_local_template_has_the_spans_of_prefixes(family: str) -> None:
    template = choose_template(None, family_renderer(family).tokenizer)
    local = learn(template)
    assert local is not None
    for chat in (
        CHATS["plain"],
        Chat((Message("user", " a<|im_end|>"), Message("assistant", "\n b "), *SECOND, Message("user", "?"))),
    ):
        turns = turns_of(chat.messages)
        found = local.spans(turns, template.apply(turns))
        assert found == list(Marker(template, None, ()).mark(turns, ()).spans)


def test_a_template_that_rewrites_is_not_local() -> None:
    for name in ("qwen3", "phi3", "gpt-oss", "deepseek"):
        assert learn(ChatTemplate(unmarked(name), name, {"bos_token": "<s>", "eos_token": "</s>"})) is None


def test_a_turn_of_weight_0_is_not_trained_on() -> None:
    untrained = Message("assistant", "eins.", trained=False)
    for family in FAMILIES:
        (part,) = trained_parts(family_renderer(family), Chat((FIRST[0], untrained, *SECOND)))
        assert "zwei." in part
    found = family_renderer("ChatML").text_of(Chat((FIRST[0], untrained)))
    assert isinstance(found, BadRow)


def test_a_developer_is_the_system_where_the_template_rejects_or_ignores_that_role() -> None:
    chat = Chat((Message("developer", "Be brief."), *FIRST))
    assert "<|im_start|>developer\n" in text_of(family_renderer("ChatML"), chat).text
    assert "<|im_start|>system\n" in text_of(family_renderer("Qwen 3"), chat).text
    assert "<|system|>\n" in text_of(family_renderer("Phi-3"), chat).text


def test_the_words_of_a_template_are_in_its_refusal() -> None:
    found = family_renderer("Gemma 1 and 2").text_of(Chat((SYSTEM, *FIRST), where="d.jsonl:7"))
    assert isinstance(found, BadRow)
    assert found.where == "d.jsonl:7"
    assert found.problem.endswith("System role not supported")


def test_reasoning_in_the_content_of_earlier_answers_is_counted_where_it_is_removed() -> None:
    thought = Message("assistant", "<think>\nEasy.\n</think>\n\neins.")
    rendered = text_of(family_renderer("Qwen 3"), Chat((FIRST[0], thought, *SECOND)))
    assert rendered.ignored == ("reasoning_content",)


def test_the_date_that_a_template_writes_is_fixed() -> None:
    assert "Current date: 2024-07-26\n" in text_of(family_renderer("gpt-oss"), CHATS["plain"]).text
    assert "Today Date: 26 July 2024\n" in text_of(family_renderer("SmolLM3"), CHATS["plain"]).text


def test_a_date_has_all_its_parts() -> None:
    template = ChatTemplate("{{ strftime_now('%A, %-d %b %y %H:%M:%S, %j') }}", "", {})
    assert template.apply(()) == "Friday, 26 Jul 24 00:00:00, 208"


def test_chats_with_tools_have_the_template_for_them() -> None:
    tokenizer = family_tokenizer(None, "<|im_end|>")
    tokenizer.chat_template = {"default": unmarked("chatml"), "tool_use": unmarked("qwen3") + "\n"}
    renderer = Renderer(tokenizer, frozenset({tokenizer.eos_token_id}))
    for chat, family in (("plain", "ChatML"), ("tools", "Qwen 3")):
        assert text_of(renderer, CHATS[chat]).text == text_of(family_renderer(family), CHATS[chat]).text
        assert trained_parts(renderer, CHATS[chat]) == trained_parts(family_renderer(family), CHATS[chat])
    tokenizer.chat_template = published = renderer.template
    assert Renderer(tokenizer, renderer.ends).template == published


def test_of_two_templates_the_one_without_marks_is_searched() -> None:
    marked, bare = builtin_text("chatml"), unmarked("chatml")
    for pair in ({"default": marked, "tool_use": bare}, {"default": bare, "tool_use": marked}):
        tokenizer = family_tokenizer(None, "<|im_end|>")
        tokenizer.chat_template = pair
        renderer = Renderer(tokenizer, frozenset({tokenizer.eos_token_id}))
        plain = Chat(CHATS["plain"].messages, CHATS["tools"].tools)
        for chat in (CHATS["plain"], plain):
            assert trained_parts(renderer, chat) == trained_parts(family_renderer("ChatML"), CHATS["plain"])
            method = "marks" if pair["tool_use" if chat.tools else "default"] is marked else "prefixes"
            assert text_of(renderer, chat).method == method


def test_half_of_a_character_that_a_template_writes_makes_bad_rows(tmp_path: Path) -> None:
    file = tmp_path / "our.jinja"
    file.write_text('{{ "\\ud800" }}{{ messages[0].content }}')
    found = family_renderer("ChatML", file).text_of(CHATS["plain"])
    assert isinstance(found, BadRow)
    assert "\\ud800" in found.problem


def test_a_template_that_does_not_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_templates, "_LIMIT", TimeLimit(0.0))
    file = tmp_path / "our.jinja"
    loop = "{% for i in range(100000) %}"
    file.write_text(loop * 3 + "{% endfor %}" * 3)
    with pytest.raises(DatasetError) as caught:
        family_renderer("ChatML", file)
    assert str(file) in caught.value.problem


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{{ foo(messages) }}", "UndefinedError: 'foo' is undefined"),
        ("{{ 1 // 0 }}", "ZeroDivisionError"),
        ("{% for i in range(1000000) %}{% endfor %}", "OverflowError: Range too big"),
        ("{{ 'a' * 1000000000000 }}", "MemoryError"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
    ],
)
def test_a_template_that_fails_makes_bad_rows_with_the_cause(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "our.jinja"
    file.write_text(text)
    found = family_renderer("ChatML", file).text_of(CHATS["plain"])
    assert isinstance(found, BadRow)
    assert f"the chat template fails on this conversation: {words}" in found.problem


def test_a_template_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "our.jinja"
    file.write_text(unmarked("chatml"), encoding="utf-8-sig")
    assert family_renderer("ChatML", file).template == unmarked("chatml")


def test_an_empty_template_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "our.jinja"
    file.write_text(" \n")
    with pytest.raises(SpecError, match="is empty"):
        family_renderer("ChatML", file)


def test_the_setting_chooses_a_file_or_a_builtin_template(tmp_path: Path) -> None:
    file = tmp_path / "our.jinja"
    file.write_text(unmarked("chatml").replace("im_start", "im_sep"))
    renderer = family_renderer("Qwen 2.5", file)
    assert text_of(renderer, CHATS["plain"]).text.startswith("<|im_sep|>user\n")
    assert renderer.template == file.read_text()
    named = family_renderer("ChatML", "plain")
    assert named.template_origin == "built-in plain"
    with pytest.raises(SpecError, match="neither a file nor") as caught:
        family_renderer("ChatML", "chatlm")
    assert "Did you mean `chatml`?" in caught.value.fix


def test_a_template_that_is_not_jinja_is_reported_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "our.jinja"
    file.write_text("{% for m in messages %}\n{{ m.content }\n{% endfor %}")
    with pytest.raises(SpecError, match=r"our\.jinja, line 2"):
        family_renderer("ChatML", file)
    broken = Renderer(family_tokenizer("{% for %}", "</s>"), frozenset({1}))
    assert isinstance(found := broken.text_of(CHATS["plain"]), BadRow)
    assert "line 1: " in found.problem
    assert isinstance(broken.text_of(Text("Once.")), Rendered), "texts need no template"


@pytest.mark.parametrize("text", ["Once.", "<s>Once.", "<s><s>Once.</s>", "Once.</s></s>"])
@pytest.mark.parametrize("adds", ["$A", "<s> $A", "<s> $A </s>"])
def test_texts_have_one_begin_and_one_end(text: str, adds: str) -> None:
    tokenizer = family_tokenizer(None, "</s>")
    ids = [(token, tokenizer.convert_tokens_to_ids(token)) for token in ("<s>", "</s>")]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=adds, special_tokens=ids)
    renderer = Renderer(tokenizer, frozenset({ids[1][1]}))
    begins = "<s>" if adds != "$A" or text.startswith("<s>") else ""
    assert renderer.preview(renderer.render(Text(text))) == f"⟦{begins}Once.</s>⟧"


def test_end_of_sequence_inside_a_text_stays() -> None:
    renderer = family_renderer("Mistral")
    assert renderer.preview(renderer.render(Text("Once.</s>Twice."))) == "⟦Once.</s>Twice.</s>⟧"


@pytest.mark.parametrize("family", ["Llama 3", "Gemma 3", "Mistral", "DeepSeek V3 and R1"])
def test_a_chat_has_the_begin_that_its_template_writes(family: str) -> None:
    renderer = family_renderer(family)
    bos = renderer.tokenizer.bos_token_id
    doubled = "{{ bos_token }}" + renderer.template
    for tokenizer in (renderer.tokenizer, family_tokenizer(doubled, FAMILIES[family][1][0])):
        ids = Renderer(tokenizer, renderer.ends).render(CHATS["plain"]).input_ids.tolist()
        assert ids[0] == bos
        assert ids.count(bos) == 1
