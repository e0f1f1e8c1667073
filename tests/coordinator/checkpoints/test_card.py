"""A model card has all facts, and shows untrusted text as text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest
from huggingface_hub import ModelCard
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from barnraise.contract.manifest import Form, HeldOut, position_fields
from barnraise.contract.spec import (
    CheckpointSpec,
    DataSpec,
    Full,
    Lora,
    ModelSpec,
    RunSpec,
    SourceSpec,
    TrainSpec,
)
from barnraise.contract.tip import Position
from barnraise.core.ids import BlobHash, Round
from coordinator.checkpoints.card import (
    CURVE,
    MOST_NAMES,
    OLDEST_TOOLS,
    CardFacts,
    Credits,
    card,
    code,
    gguf_name,
    plain,
)
from coordinator.store.history import Share
from tests.support import parts
from tests.support.hostile import acting
from tests.support.old_tools import PACKAGES

FORMS: tuple[Form, ...] = get_args(Form)
HOSTILE = [
    "</p><script>alert(1)</script>",
    "[click](http://evil.example) ![x](http://evil.example/x.png)",
    "# Heading\n\n---\nlicense: mit\n---\n",
    "`code` **bold** _it_ ~~gone~~ | a | b |",
    "\n\n- item\n1. item\n> quote\n\n```python\nimport os\n```",
    "\u202egnp.exe\u2066\x00\x1b[31m",
    "&lt;b&gt; &#60;b&#62; <http://evil.example> https://evil.example www.evil.example",
    "$$\\frac{1}{0}$$ \\",
    "===",
    "===\nb",
    "- [ ] task",
    "12) item",
    "+ item",
    "a\n---\nb",
    "    code",
    "``` ` ``",
]


def facts(
    description: str = "",
    source: str = "chats.jsonl",
    licence: str = "cc-by-4.0",
    model: ModelSpec | None = None,
    target: Lora | Full | None = None,
    data: DataSpec | None = None,
    **other: Any,
) -> CardFacts:
    spec = RunSpec(
        name=parts.RUN,
        description=description,
        model=model or ModelSpec(source="owner/base", revision="abc123", licence="apache-2.0"),
        data=data or DataSpec(source=source, licence=licence),
        train=TrainSpec(target=target or Lora(rank=4)),
        checkpoint=CheckpointSpec(gguf="q8_0", merged=True),
    )
    made = CardFacts(
        charter=parts.charter(spec, parts.state()),
        round=12,
        tokens=3_456_789,
        state=parts.HASH_A,
        place=position_fields(Position(Round(12), BlobHash(parts.HASH_B))),
        held_out=HeldOut(loss=1.5, tokens=32_000),
        first=HeldOut(loss=2.5, tokens=32_000),
        curve=True,
        credits=Credits((("Ada", Share(3, 1_000)), ("Ben", Share(1, 500))), 2),
    )
    return replace(made, **other)


def rendered(text: str) -> list[Token]:
    """The tokens of the body as a Markdown renderer sees them, with inline ones."""
    body = text.split("\n---\n", 1)[1]
    found = []
    for token in MarkdownIt("gfm-like", {"linkify": False}).parse(body):
        found += [token, *(token.children or [])]
    return found


def skeleton(text: str) -> list[tuple[str, str]]:
    """The markup of a card: no text, but all of its structure, links and code blocks."""
    ignored = {"text", "inline", "code_inline", "softbreak"}
    return [
        (token.type, token.content if token.type in ("fence", "html_inline", "html_block") else token.tag)
        for token in rendered(text)
        if token.type not in ignored
    ]


def texts(text: str) -> str:
    return "".join(token.content for token in rendered(text) if token.type in ("text", "code_inline"))


def front(text: str) -> dict[str, Any]:
    return dict(ModelCard(text).data.to_dict())


def test_a_checkpoint_s_card_has_all_facts() -> None:
    made = facts(description="Answers like Python's documentation")
    shown = card(made)
    for expected in (
        "barn, round 12", "Answers like Python's documentation", "owner/base", "abc123",
        "licence: apache-2.0", "chats.jsonl", "licence: cc-by-4.0", "LoRA adapter of rank 4", "Rounds: 12",
        "3,456,789",
        "1.5000 nats a token (the base model: 2.5000)", "32,000 tokens that were not trained on",
        made.charter.digest, f"({CURVE})", "Ada: 1,000 tokens in 3 rounds",
        "Ben: 500 tokens in 1 round\n", "and 2 more", "PeftModel.from_pretrained",
        "HF_HUB_DISABLE_IMPLICIT_TOKEN=1", parts.AUTHORITY.public, parts.HASH_A, "peer verify",
    ):  # fmt: skip
        assert expected in shown, expected


def test_the_front_matter_describes_the_form() -> None:
    data = front(card(facts()))
    assert data["license"] == "apache-2.0"
    assert (data["base_model"], data["base_model_relation"]) == ("owner/base", "adapter")
    assert (data["library_name"], data["pipeline_tag"]) == ("peft", "text-generation")
    results = ModelCard(card(facts())).data.get("eval_results")
    assert [result.metric_value for result in results] == [1.5]
    assert front(card(facts(target=Full())))["base_model_relation"] == "finetune"
    merged, gguf = front(card(facts(), "merged")), front(card(facts(), "gguf"))
    assert (merged["library_name"], merged["base_model_relation"]) == ("transformers", "finetune")
    assert (gguf["library_name"], gguf["base_model_relation"]) == ("gguf", "quantized")


def test_each_form_shows_how_to_use_it() -> None:
    assert 'PeftModel.from_pretrained(model, "barnraise/barn", revision="round-12")' in card(facts())
    assert 'from_pretrained("barnraise/barn-merged", revision="round-12")' in card(facts(), "merged")
    assert 'from_pretrained("barnraise/barn", revision="round-12")' in card(facts(target=Full()))
    assert f"llama-cli -m barn/{gguf_name(facts())}" in card(facts(), "gguf")
    assert gguf_name(facts()) == "barn-round-12-Q8_0.gguf"
    assert 'load_dataset("barnraise/barn", split="train")' in card(facts(), "data")
    for form in FORMS:
        assert parts.AUTHORITY.public in card(facts(), form), form
    tools = "Requires transformers 4.46, peft 0.13 and huggingface_hub 0.26 or newer"
    assert tools in card(facts())
    assert tools.replace(", peft 0.13", "") in card(facts(), "merged")


def test_a_base_model_that_is_not_served_is_downloaded_elsewhere() -> None:
    shown = card(facts(model=ModelSpec(source="owner/base", licence="llama2")))
    assert "may not redistribute the base model: download it from `owner/base`" in shown
    assert 'AutoModelForCausalLM.from_pretrained("owner/base")' not in shown


def test_each_source_of_the_data_is_named() -> None:
    sources = (
        SourceSpec(source="chats.jsonl", weight=0.5),
        SourceSpec(source="hub:owner/name", config="en", revision="abc"),
    )
    shown = card(facts(data=DataSpec(sources=sources)))
    assert (
        "- Data: `chats.jsonl` (0.5 times), `hub:owner/name` at `abc`, configuration `en` (licence" in shown
    )


def test_unknown_facts_are_left_out() -> None:
    shown = card(facts(held_out=None, first=None, curve=False, credits=Credits((), 0)))
    assert "Held-out" not in shown
    assert CURVE not in shown
    assert "Who trained it" not in shown
    assert "model-index" not in shown
    unknown = facts(model=ModelSpec(source="owner/base"))
    assert "license" not in front(card(unknown))
    assert "the base model: " not in card(facts(round=0)), "round 0 is the base model"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("text", HOSTILE)
def test_untrusted_text_is_never_markup(text: str, form: Form) -> None:
    tame = facts("words", "words", "words", ModelSpec(source="words", licence="words", revision="words"))
    tame = replace(tame, credits=Credits((("words", Share(1, 1)),), 0))
    made = facts(text, text, text, ModelSpec(source=text, licence=text, revision=text))
    made = replace(made, credits=Credits(((text, Share(1, 1)),), 0))
    assert skeleton(card(made, form)) == skeleton(card(tame, form))
    assert front(card(made, form)).keys() <= front(card(facts(), form)).keys() | {"license_name"}
    for result in ModelCard(card(made, form)).data.get("eval_results") or []:
        assert result.dataset_name == text, "YAML changes the text"


@given(st.text(max_size=80))
@example("&lt;b&gt; &#60; <b> &amp;")
@example("12. a")
@example("Python's docs. Well-known: 3.12 (new!)")
@example("a\n\n# b\x00\u202ec")
@example("\u3164 \ufe00\U000e0100 @ada :x: mailto:a@b.example")
def test_any_text_is_shown_as_it_is_on_one_line(text: str) -> None:
    shown = " ".join("".join(" " if acting(c) else c for c in text).split())
    assert "\n" not in plain(text)
    assert texts(f"---\n---\n\nx {plain(text)} x") == f"x {shown} x"


@given(st.text(max_size=80))
@example("` ``")
@example("a\n\nb")
def test_code_stays_between_its_backticks(text: str) -> None:
    tokens = [token for token in rendered(f"---\n---\n\nx {code(text)} y") if token.type != "inline"]
    assert [token.type for token in tokens] == [
        "paragraph_open", "text", "code_inline", "text", "paragraph_close"
    ]  # fmt: skip


def test_a_card_lists_a_limited_number_of_names() -> None:
    many = Credits(tuple((f"n{i}", Share(1, 1)) for i in range(MOST_NAMES + 5)), 7)
    shown = card(facts(credits=many))
    assert f"n{MOST_NAMES - 1}:" in shown
    assert f"n{MOST_NAMES}:" not in shown
    assert "and 12 more" in shown


def test_unnamed_volunteers_are_only_counted() -> None:
    shown = card(facts(credits=Credits((), 3)))
    assert "- 3 more" not in shown
    assert "- 3 volunteers" in shown


def test_the_card_names_the_oldest_tools_that_are_tested() -> None:
    tested = {name: version for name, _, version in (each.partition("==") for each in PACKAGES)}
    assert {name: version.rpartition(".")[0] for name, version in tested.items()} == OLDEST_TOOLS


def test_void_rounds_are_named() -> None:
    made = facts()
    place = {**made.place, "void": ((3, 5), (8, 9))}
    assert "work is not in it: 3 to 5, 8 to 9" in card(replace(made, place=place))
    assert "void" not in card(made)
