"""Renders records to tokens, each marked as trained on or not.

A chat is rendered by a chat template (`chat_templates.py`), and the assistant's turns are trained on
(`masks.py`), up to and including their end-of-turn token. Text is trained on as a whole and ends with
end-of-sequence.

`text_of` renders one record to text; `encode` tokenizes many texts at once, on all cores.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from jinja2.exceptions import TemplateError, TemplateSyntaxError

from barnraise.contract.shards import Flags, Ints
from barnraise.core.errors import DatasetError
from coordinator.dataset.pack import Document
from coordinator.dataset.preview import preview_document
from coordinator.dataset.records import Chat, Record, Text
from coordinator.dataset.rendering.chat_templates import (
    PLAIN,
    REFUSALS,
    ChatTemplate,
    Span,
    builtin,
    builtin_names,
    choose_template,
)
from coordinator.dataset.rendering.fields import accepted_turns, ignored_fields, tools_of, turns_of
from coordinator.dataset.rendering.masks import MarkedText, Marker
from coordinator.dataset.rendering.text_encoder import TextEncoder, parts
from coordinator.dataset.rendering.tokenizer_faults import tokenizer_faults
from coordinator.dataset.rows.row import BadRow, Unusable

MAX_RENDERED = 2**24
"""Characters of one chat, which take 0.5 GB in the tokenizer."""
TEXT = "text"
"""The method of plain text, all of which is trained on."""


@dataclass(frozen=True)
class Rendered:
    """A record as text."""

    text: str
    spans: tuple[Span, ...] | None
    """What is trained on, in characters; None for plain text, all of which is."""
    where: str
    """File and line, for error messages."""
    method: str = TEXT
    """How the spans were found: `TEXT`, or a method of `masks.py`."""
    ignored: tuple[str, ...] = ()
    """Fields that the template does not write, each as often as it occurs in the record."""


@dataclass(frozen=True)
class Renderer:
    """Turns records into documents with one tokenizer (a fast one of transformers). It can be pickled."""

    tokenizer: Any
    ends: frozenset[int]
    """Token ids that end a generated answer: the tokenizer's, and those of the model's configs."""
    chat_template: str | None = None
    """The setting `[data] chat_template`: a file's path or the name of a built-in template."""
    _template: ChatTemplate = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.tokenizer.eos_token_id is None:
            raise DatasetError("the tokenizer has no end-of-sequence token", fix="Use another base model.")
        if not self.tokenizer.is_fast:
            raise DatasetError(
                "the tokenizer has no fast version (tokenizer.json), which maps tokens to text",
                fix="Use a base model that ships tokenizer.json.",
            )
        object.__setattr__(self, "_template", choose_template(self.chat_template, self.tokenizer))
        self.tokenizer.backend_tokenizer.no_truncation()
        self.tokenizer.backend_tokenizer.no_padding()

    @property
    def template(self) -> str:
        """The text of the chat template in use, as checkpoints carry it."""
        return self._template.published

    @property
    def template_origin(self) -> str:
        """Where the chat template is from: `tokenizer`, a file's path, or `built-in NAME`."""
        return self._template.origin

    def render(self, record: Record) -> Document:
        """The document of one record. Raises DatasetError where it cannot be rendered or trained on."""
        found: Rendered | Document | BadRow = self.text_of(record)
        if isinstance(found, Rendered):
            (found,) = self.encode([found])
        if isinstance(found, BadRow):
            raise DatasetError(f"{found.where}: {found.problem}", fix=found.fix)
        assert isinstance(found, Document)
        return found

    def text_of(self, record: Record) -> Rendered | BadRow:
        """The record as text, or why it cannot be trained on."""
        if isinstance(record, Text):
            return Rendered(record.text, None, record.where)
        try:
            return self._text_of_chat(record)
        except Unusable as fault:
            return BadRow(record.where, fault.problem, fault.fix)

    def _text_of_chat(self, record: Chat) -> Rendered:
        turns, tools = turns_of(record.messages), tools_of(record)
        try:
            turns = accepted_turns(self._template, turns, tools)
            marked = self._marker.mark(turns, tools)
        except REFUSALS as error:
            raise _unrendered(error) from None
        _check_written(marked.text)
        ignored = ignored_fields(self._template, turns, tools, marked.text)
        spans = _trained_spans(record, marked)
        return Rendered(
            marked.text,
            tuple(self._with_end(marked.text, span) for span in spans),
            record.where,
            marked.method,
            ignored,
        )

    def encode(self, texts: Sequence[Rendered]) -> list[Document | BadRow]:
        """The documents of rendered records, in their order; a bad row for one that cannot be trained on.

        It tokenizes on all cores, unless TOKENIZERS_PARALLELISM is false. Raises DatasetError where the
        tokenizer fails.
        """
        with tokenizer_faults():
            return self._encoded(texts)

    def _encoded(self, texts: Sequence[Rendered]) -> list[Document | BadRow]:
        found: list[Document | BadRow | None] = [None] * len(texts)
        plain = [i for i, text in enumerate(texts) if text.spans is None]
        chats = [i for i, text in enumerate(texts) if text.spans is not None]
        backend = self.tokenizer.backend_tokenizer
        for i, document in zip(plain, self._text_encoder.encode([texts[i].text for i in plain]), strict=True):
            found[i] = document
        encodings = backend.encode_batch([texts[i].text for i in chats], add_special_tokens=False)
        for i, encoding in zip(chats, encodings, strict=True):
            found[i] = self._chat(encoding, texts[i])
        return [document for document in found if document is not None]

    def count_tokens(self, text: str) -> int:
        """The tokens of a text, in bounded memory: it is encoded in parts, whose borders may add a few."""
        encode = self.tokenizer.backend_tokenizer.encode
        with tokenizer_faults():
            return sum(len(encode(part, add_special_tokens=False).ids) for part in parts(text))

    def preview(self, document: Document) -> str:
        """The document as text, with its trained parts marked."""
        return preview_document(self.tokenizer, document)

    def _chat(self, encoding: Any, rendered: Rendered) -> Document | BadRow:
        ids = np.asarray(encoding.ids, np.int32)
        is_end = np.isin(ids, self._sorted_ends)
        trained = np.zeros(len(ids), np.bool_)
        for span in rendered.spans or ():
            first, last = (_first_token(encoding, place) for place in span)
            # The model never generates what the template writes after a turn: it is not trained on.
            closing = np.flatnonzero(is_end[first:last])
            trained[first : first + closing[-1] + 1 if len(closing) else last] = True
        if not (trained & is_end).any():
            return self._never_ends(rendered.where)
        skipped = _repeated_at_start(ids, self.tokenizer.bos_token_id)
        return Document(ids[skipped:], trained[skipped:])

    def _never_ends(self, where: str) -> BadRow:
        return BadRow(
            where,
            "the chat template ends an answer without an end-of-sequence token "
            f"({', '.join(self._end_names)}), so the model would not learn to stop",
            "Use the instruction-tuned version of the base model, whose template and end-of-sequence "
            f'token belong together, or write chat_template = "{PLAIN}" under [data] in run.toml.',
        )

    def _with_end(self, text: str, span: Span) -> Span:
        """The span with the end-of-turn token that follows it, where it contains none itself."""
        begin, end = span
        if self._end_pattern.search(text, begin, end):
            return span
        follows = self._end_pattern.match(text, end)
        return (begin, follows.end()) if follows else span

    @cached_property
    def _marker(self) -> Marker:
        named = [builtin(name, self.tokenizer) for name in builtin_names() if name != PLAIN]
        return Marker.of(self._template, named)

    @cached_property
    def _text_encoder(self) -> TextEncoder:
        return TextEncoder(self.tokenizer)

    @cached_property
    def _sorted_ends(self) -> list[int]:
        return sorted(self.ends)

    @cached_property
    def _end_names(self) -> list[str]:
        return [str(self.tokenizer.convert_ids_to_tokens(end)) for end in self._sorted_ends]

    @cached_property
    def _end_pattern(self) -> re.Pattern[str]:
        return re.compile(r"\s*(?:" + "|".join(map(re.escape, self._end_names)) + ")")


def _trained_spans(chat: Chat, marked: MarkedText) -> list[Span]:
    """The spans of the turns that are trained on. Raises Unusable where one cannot be found."""
    answers = [message for message in chat.messages if message.role == "assistant"]
    if not any(message.trained for message in answers):
        raise Unusable(
            "no turn of the assistant is trained on",
            fix="Give one a weight above 0, or remove the row.",
        )
    if len(answers) != len(marked.spans) and not all(message.trained for message in answers):
        raise Unusable(
            f"the chat template marks {len(marked.spans)} answers where the chat has "
            f"{len(answers)}, so the one whose weight is 0 is not known",
            fix="Use a template that marks each of the assistant's turns once.",
        )
    wanted = (
        [span for span, message in zip(marked.spans, answers, strict=True) if message.trained]
        if len(answers) == len(marked.spans)
        else list(marked.spans)
    )
    if None in wanted or not wanted:
        raise Unusable(
            "the chat template writes an answer differently once other turns follow, "
            "so the answer cannot be distinguished from the question",
            fix="Choose a template with `{% generation %}` marks by `chat_template` under [data] in "
            "run.toml, or split the record into chats of one answer each.",
        )
    return [span for span in wanted if span is not None]


def _check_written(text: str) -> None:
    """Raises Unusable for what the template itself writes and no tokenizer takes; the records are checked."""
    if len(text) > MAX_RENDERED:
        raise Unusable(
            f"the chat template writes {len(text):,} characters for it, and the most is {MAX_RENDERED:,}",
            fix="Correct the template, or choose another one by `chat_template` under [data] in run.toml.",
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Unusable(
            f"the chat template writes half of a surrogate pair, {ascii(text[error.start])[1:-1]}",
            fix="Correct the template, or choose another one by `chat_template` under [data] in run.toml.",
        ) from None


def _first_token(encoding: Any, place: int) -> int:
    """The number of the first token that begins at the character `place` or after it."""
    return bisect_left(range(len(encoding)), place, key=lambda token: encoding.token_to_chars(token)[0])


def _repeated_at_start(ids: Ints | Flags, token: int | None) -> int:
    """How often `token` stands at the start beyond once."""
    count = 0
    while token is not None and count + 1 < len(ids) and ids[count] == ids[count + 1] == token:
        count += 1
    return count


def _unrendered(error: Exception) -> Unusable:
    """Why a template, in its own words, does not render a chat."""
    other = "choose another template by `chat_template` under [data] in run.toml."
    if type(error) is TemplateError:  # by raise_exception
        return Unusable(
            f"the chat template rejects this conversation: {error}",
            fix="Order the turns as it expects (mostly user and assistant in turn), drop `system`, or "
            + other,
        )
    words = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, TemplateSyntaxError):
        words = f"line {error.lineno}: {error.message}"
    return Unusable(
        f"the chat template fails on this conversation: {words}",
        fix="Correct the template, give the messages what it reads, or " + other,
    )
