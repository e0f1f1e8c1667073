"""A base model whose chat template takes the coordinator's memory or time while it builds the dataset."""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import NoReturn

import pytest
from jinja2.exceptions import TemplateError

from barnraise.core.ids import BlobHash
from barnraise.runtime.memory_limit import lift_memory_limit, limited_memory
from coordinator.dataset import build as module
from coordinator.dataset.records import Chat, Message
from coordinator.dataset.rendering.chat_templates import REFUSALS, ChatTemplate
from coordinator.dataset.rendering.render import MAX_RENDERED, Renderer
from coordinator.dataset.rows.row import BadRow
from tests.support import parts
from tests.support.tiny import make_tiny_tokenizer

TURNS = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
LIMIT = 2**29
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts what a program maps")


def template(text: str) -> ChatTemplate:
    return ChatTemplate(text, "tokenizer", {})


@LINUX
@pytest.mark.parametrize(
    "text",
    [
        "{{ 'x' * 3000000000 }}",
        "{{ 'x'.ljust(3000000000) }}",
        "{{ 'a' | center(3000000000) }}",
        "{{ '%3000000000d' % 1 }}",
        "{% set n = namespace(t='xxxxxxxx') %}{% for a in range(29) %}{% set n.t = n.t ~ n.t %}{% endfor %}",
        "{{ ('x' * 60000).replace('x', 'y' * 60000) }}",
    ],
)
def test_a_template_that_takes_gigabytes_fails(text: str) -> None:
    with limited_memory(LIMIT), pytest.raises(REFUSALS):
        template(text).apply(TURNS)


@LINUX
def test_the_limit_ends_with_the_block_and_children_lift_it() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with limited_memory(LIMIT):
        assert resource.getrlimit(resource.RLIMIT_DATA)[0] != before[0]
        lift_memory_limit()
        assert resource.getrlimit(resource.RLIMIT_DATA)[0] == before[1]
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


@pytest.mark.parametrize(
    "text", ["{{ 10 ** 10 ** 9 }}", "{{ 1 | round(999999999, 'ceil') }}", "{% set a = 9**9**9 %}"]
)
def test_a_template_that_computes_powers_is_refused_before_it_runs(text: str) -> None:
    with pytest.raises(TemplateError, match="computes powers"):
        template(text).apply(TURNS)


def test_a_template_may_write_about_powers() -> None:
    assert template("a ** b, round {{ messages[0].content }} {{ '**' }}").apply(TURNS) == "a ** b, round a **"


def test_a_chat_that_a_template_makes_endless_is_a_bad_row() -> None:
    tokenizer = make_tiny_tokenizer()
    tokenizer.chat_template = "{{ 'x' * " + str(MAX_RENDERED + 1) + " }}<|im_end|>"
    renderer = Renderer(tokenizer, frozenset({2}))
    found = renderer.text_of(Chat((Message("user", "a"), Message("assistant", "b")), where="data.jsonl:1"))
    assert isinstance(found, BadRow)
    assert f"{MAX_RENDERED:,}" in found.problem


@LINUX
def test_datasets_are_built_under_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def opened(_: Path) -> NoReturn:
        seen.append(resource.getrlimit(resource.RLIMIT_DATA)[0])
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "open_tokenizer", opened)
    before = resource.getrlimit(resource.RLIMIT_DATA)[0]
    with pytest.raises(KeyboardInterrupt):
        module.build(parts.run_spec(), tmp_path, lambda _: BlobHash(""), print)
    assert seen[0] != before
    assert resource.getrlimit(resource.RLIMIT_DATA)[0] == before
