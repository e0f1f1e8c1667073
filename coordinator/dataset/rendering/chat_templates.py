"""Chat templates: the tokenizer's own, a file of the maintainer, or a built-in one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import date
from functools import cache, cached_property, lru_cache
from importlib.resources import files
from pathlib import Path
from threading import Lock
from typing import Any

from jinja2 import Environment
from jinja2.exceptions import TemplateError, TemplateSyntaxError
from transformers.utils.chat_template_utils import render_jinja_template

from barnraise.core.errors import DatasetError, SpecError
from coordinator.dataset.rendering.time_limit import OutOfTime, TimeLimit

Turn = Mapping[str, Any]
"""A message as templates read it: `role`, `content`, and other keys where it has them."""
Span = tuple[int, int]
"""Begin and end in characters."""

PLAIN = "plain"
"""The built-in template of tokenizers that have none."""
REFUSALS = (
    TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RuntimeError,
    MemoryError,
)  # fmt: skip
"""What rendering raises: a template refuses (`raise_exception`), or fails on a turn it does not expect."""

_BUILTIN = files("coordinator.dataset.rendering") / "template_files"
_BUILTIN_ORIGIN = "built-in "
_TRACKING = Lock()
_LIMIT = TimeLimit(seconds=30)
"""A chat takes milliseconds. Jinja's sandbox bounds each loop, and not the loops within loops."""
_MARKS = re.compile(r"(\{%[-+]?\s*)(end)?generation(\s*[-+]?%\})")
_MARK = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")
_DATE = date(2024, 7, 26)
"""Some templates write today's date. The same records must give the same shards on every day, so these
templates get the date that Llama 3's falls back to."""
_DIRECTIVES = (*"aAbBcdeFHIjmMpSTxXyY", "-d", "-H", "-I", "-m", "-M", "-S")
_UNBOUNDED = frozenset({"**", "round"})
"""Operator and filter that compute powers: one call can take hours, and nothing interrupts it."""
_FIXED_DATE = (
    "{%- macro strftime_now(format) -%}{{ format"
    + "".join(f" | replace('%{each}', '{_DATE.strftime('%' + each)}')" for each in _DIRECTIVES)
    + " }}{%- endmacro -%}"
)
"""transformers passes templates no functions but its own."""


@dataclass(frozen=True)
class ChatTemplate:
    """A Jinja template of chats, with the special tokens that it may write."""

    text: str
    origin: str
    """Where it is from: `tokenizer`, a file's path, or `built-in NAME`."""
    special_tokens: Mapping[str, str]

    @cached_property
    def has_marks(self) -> bool:
        """Whether it marks what the model generates by `{% generation %}`."""
        return bool(_MARK.search(self.text))

    def apply(
        self, turns: Sequence[Turn], tools: Sequence[Mapping[str, Any]] = (), *, prompt: bool = False
    ) -> str:
        """The turns as text. Raises one of REFUSALS, and DatasetError for a template that does not end.

        prompt: whether the text ends with what precedes an answer of the assistant.
        """
        (text,) = self._render(turns, tools, add_generation_prompt=prompt)[0]
        return str(text)

    def apply_marked(
        self, turns: Sequence[Turn], tools: Sequence[Mapping[str, Any]] = ()
    ) -> tuple[str, list[Span]]:
        """The turns as text, and what is between generation marks. Raises one of REFUSALS."""
        (text,), (spans,) = self._render(turns, tools, return_assistant_tokens_mask=True)
        return str(text), [(int(begin), int(end)) for begin, end in spans]

    @property
    def published(self) -> str:
        """The text that checkpoints carry: of a built-in template without the marks, which not all programs
        know."""
        if not self.origin.startswith(_BUILTIN_ORIGIN):
            return self.text
        return _MARKS.sub(lambda tag: f"{tag[1]}{'endif' if tag[2] else 'if true'}{tag[3]}", self.text)

    def _render(self, turns: Sequence[Turn], tools: Sequence[Mapping[str, Any]], **options: bool) -> Any:
        # One template's tracker of marks serves one thread at a time.
        with _TRACKING if self.has_marks else nullcontext():
            try:
                return _LIMIT.run(lambda: self._rendered(turns, tools, options))
            except OutOfTime:
                raise DatasetError(
                    f"the chat template ({self.origin}) takes more than {_LIMIT.seconds:.0f} seconds for"
                    " one chat",
                    fix="Remove its long loops, or choose another template by `chat_template` under [data]"
                    " in run.toml.",
                ) from None

    def _rendered(
        self, turns: Sequence[Turn], tools: Sequence[Mapping[str, Any]], options: Mapping[str, bool]
    ) -> Any:
        _refuse_powers(self.text)
        text = _FIXED_DATE + self.text if "strftime_now" in self.text else self.text
        return render_jinja_template(
            conversations=[list(turns)],
            tools=[dict(tool) for tool in tools] or None,
            chat_template=text,
            **options,
            **self.special_tokens,
        )


@lru_cache(maxsize=16)
def _refuse_powers(text: str) -> None:
    """Raise TemplateError for a template that computes powers."""
    for _, kind, value in Environment().lex(text):
        if kind in ("operator", "name") and value in _UNBOUNDED:
            raise TemplateError(f"it computes powers (`{value}`), which no chat needs")


@cache
def builtin_names() -> tuple[str, ...]:
    """The names of the built-in templates, sorted."""
    return tuple(sorted(file.name.removesuffix(".jinja") for file in _BUILTIN.iterdir()))


@cache
def builtin_text(name: str) -> str:
    """The Jinja text of a built-in template."""
    return (_BUILTIN / f"{name}.jinja").read_text(encoding="utf-8")


def builtin(name: str, tokenizer: Any) -> ChatTemplate:
    """A built-in template for a tokenizer's special tokens."""
    return ChatTemplate(builtin_text(name), _BUILTIN_ORIGIN + name, tokenizer.special_tokens_map)


def choose_template(setting: str | None, tokenizer: Any) -> ChatTemplate:
    """The template of `[data] chat_template`, else the tokenizer's, else the built-in `plain`.

    setting: a file's absolute path, or the name of a built-in template. Raises SpecError for one that does
    not exist or cannot be parsed. One of the tokenizer that cannot be parsed rejects each chat.
    """
    if setting is not None:
        chosen = _of_setting(setting, tokenizer)
        _check_syntax(chosen)
        return chosen
    if tokenizer.chat_template:
        return ChatTemplate(_own_text(tokenizer), "tokenizer", tokenizer.special_tokens_map)
    return builtin(PLAIN, tokenizer)


def _own_text(tokenizer: Any) -> str:
    """The tokenizer's template; where it has several, the one called `default`, and `tool_use` for chats with
    tools, as transformers chooses them.
    """
    own = tokenizer.chat_template
    if not isinstance(own, Mapping):
        return str(own)
    default = str(own.get("default") or next(iter(own.values())))
    if not (tool_use := own.get("tool_use")):
        return default
    first, second = (text.removesuffix("\n") for text in (tool_use, default))
    return f"{{% if tools %}}{first}{{% else %}}{second}{{% endif %}}"


def _of_setting(setting: str, tokenizer: Any) -> ChatTemplate:
    if setting in builtin_names():
        return builtin(setting, tokenizer)
    path = Path(setting)
    if not path.is_file():
        near = difflib.get_close_matches(setting, builtin_names(), n=1)
        meant = f"Did you mean `{near[0]}`? " if near else ""
        raise SpecError(
            f"[data] chat_template: `{setting}` is neither a file nor a built-in template",
            fix=f"{meant}Give a file, or one of: {', '.join(builtin_names())}.",
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(
            f"[data] chat_template: cannot read {path}: {error}", fix="Give a Jinja file in UTF-8."
        ) from None
    if not text.strip():
        raise SpecError(f"[data] chat_template: {path} is empty", fix="Write a Jinja template into it.")
    return ChatTemplate(text, str(path), tokenizer.special_tokens_map)


def _check_syntax(template: ChatTemplate) -> None:
    """Raise unless the template compiles."""
    probe = ({"role": "user", "content": "?"},)
    try:
        template.apply(probe)
    except TemplateSyntaxError as error:
        raise SpecError(
            f"[data] chat_template: {template.origin}, line {error.lineno}: {error.message}",
            fix="Correct it, or choose another template.",
        ) from None
    except REFUSALS:
        pass  # it refuses the probe; whether it refuses the records is found out with each of them
