"""A checkpoint whose chat template or tokenizer takes a volunteer's time or memory, in `peer chat`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tokenizers import Regex, Tokenizer, pre_tokenizers

from barnraise.core.errors import ModelUnavailable
from barnraise.models.tokenizer_files import load_tokenizer
from peer.chat.text_process import TextFailed, TextLimits, TextProcess
from peer.chat.text_program import answered
from tests.support.tiny import make_tiny_model

HELLO = [{"role": "user", "content": "Hello there"}]
LIMITS = TextLimits(answer=2.0, memory=2**30)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return make_tiny_model(tmp_path / "model")


@contextmanager
def process(folder: Path, limits: TextLimits = LIMITS) -> Iterator[TextProcess]:
    made = TextProcess(folder, limits)
    try:
        yield made
    finally:
        made.close()


def endless(folder: Path) -> None:
    # It renders the probe of one turn at once, and never ends for the conversation.
    (folder / "chat_template.jinja").write_text(
        "{% if add_generation_prompt %}{% for a in range(99999) %}{% for b in range(99999) %}"
        "{% for c in range(99999) %}{% endfor %}{% endfor %}{% endfor %}{% endif %}x"
    )


def enormous(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text(
        "{% if add_generation_prompt %}{{ 'x' * 9000000000 }}{% endif %}x"
    )


def doubling(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text(
        "{% if add_generation_prompt %}{% set n = namespace(t='xxxxxxxx') %}"
        "{% for a in range(60) %}{% set n.t = n.t ~ n.t %}{% endfor %}{{ n.t }}{% endif %}x"
    )


def backtracking(folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"^(([a-zA-Z<>|_\n ])+)+\d$"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.save(str(folder / "tokenizer.json"))


def test_a_reply_that_is_cut_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process is ended where it takes too much, also while it writes a reply."""
    program = tmp_path / "cut"
    program.write_text("#!/bin/sh\nprintf '{\"template\": tr'\n", encoding="utf-8")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    with process(tmp_path) as running, pytest.raises(TextFailed):
        running.wait()


FURTHER = pytest.mark.full("further attacks on the same limits, each with a process that loads transformers")


@pytest.mark.parametrize(
    "attack",
    [endless, *(pytest.param(each, marks=FURTHER) for each in (enormous, doubling, backtracking))],
)
def test_what_takes_too_much_is_ended_and_named(attack: Callable[[Path], None], checkpoint: Path) -> None:
    attack(checkpoint)
    talk = [{"role": "user", "content": "a" * 200}]
    with process(checkpoint) as running, pytest.raises(TextFailed):
        running.tokens(talk)


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{% for c in cycler.__init__.__globals__ %}{{ c }}{% endfor %}",
        "{{ self.__init__.__globals__.os.system('true') }}",
        "{{ messages.append(1) }}",
        "{% import 'x' as y %}",
        "{% include '/etc/passwd' %}",
        "{{ 1 // 0 }}",
        "{{ raise_exception('no') }}",
        "{% if %}",
    ],
)
def test_a_template_that_reaches_out_fails_and_is_an_error(text: str, checkpoint: Path) -> None:
    (checkpoint / "chat_template.jinja").write_text(text)
    reply = answered(load_tokenizer(checkpoint), {"messages": HELLO})
    assert reply.keys() == {"error"}


@FURTHER
def test_a_tokenizer_that_cannot_be_read_is_an_error(checkpoint: Path) -> None:
    (checkpoint / "tokenizer.json").write_text(json.dumps({"version": "1.0"}))
    with process(checkpoint) as running, pytest.raises(ModelUnavailable):
        running.tokens(HELLO)
