"""Renders records to tokens, each marked as trained on or not.

A chat is rendered by the tokenizer's own chat template, and the assistant's turns are trained on, up to
and including their end-of-turn token. Text is trained on as a whole and ends with end-of-sequence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from jinja2.exceptions import TemplateError

from barnraise.core.errors import DatasetError
from coordinator.dataset.pack import Document
from coordinator.dataset.records import Chat, Record, Text

PLAIN_TEMPLATE = (
    "{% if bos_token %}{{ bos_token }}{% endif %}"
    "{% for message in messages %}"
    "{{ message['role'].capitalize() + ': ' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}"
    "{{ '\\n\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
"""For tokenizers of base models, which have no template: `User: …`, a blank line, `Assistant: …`
and end-of-sequence. Checkpoints must carry it, so that chats are rendered the same way after training."""

TRAINED_MARKS = ("⟦", "⟧")
"""They enclose the trained part in a preview."""


@dataclass(frozen=True)
class Renderer:
    """Turns records into documents with one tokenizer (a fast one of transformers)."""

    tokenizer: Any
    ends: frozenset[int]
    """Token ids that end a generated answer: the tokenizer's, and the model's generation config's."""

    def __post_init__(self) -> None:
        if self.tokenizer.eos_token_id is None:
            raise DatasetError("the tokenizer has no end-of-sequence token", fix="Use another base model.")
        if not self.tokenizer.is_fast:
            raise DatasetError(
                "the tokenizer has no fast version (tokenizer.json), which maps tokens to text",
                fix="Use a base model that ships tokenizer.json.",
            )

    @property
    def template(self) -> str:
        """The chat template in use: the tokenizer's, or `PLAIN_TEMPLATE`."""
        own = self.tokenizer.chat_template
        return self.tokenizer.get_chat_template() if own else PLAIN_TEMPLATE

    def render(self, record: Record) -> Document:
        """Raises DatasetError, naming the record, when it cannot be rendered or trained on."""
        if isinstance(record, Text):
            return self._text(record)
        text, spans = self._chat(record)
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        ids = np.asarray(encoded["input_ids"], np.int32)
        begins = np.asarray([begin for begin, _ in encoded["offset_mapping"]], np.int64)
        trained = np.zeros(len(ids), np.bool_)
        is_end = np.isin(ids, sorted(self.ends))
        for begin, end in spans:
            inside = (begins >= begin) & (begins < end)
            # The model never generates what the template writes after a turn: it is not trained on.
            closing = np.flatnonzero(inside & is_end)
            if len(closing):
                inside[closing[-1] + 1 :] = False
            trained |= inside
        if not (trained & is_end).any():
            raise DatasetError(
                f"{record.where}: the chat template ends an answer without an end-of-sequence token "
                f"({', '.join(self._names())}), so the model would not learn to stop",
                fix="Use the instruction-tuned version of the base model, whose template and "
                "end-of-sequence token belong together.",
            )
        return Document(ids, trained)

    def _text(self, record: Text) -> Document:
        encoded = self.tokenizer(record.text, verbose=False)["input_ids"]
        if not encoded or encoded[-1] != self.tokenizer.eos_token_id:
            encoded = [*encoded, self.tokenizer.eos_token_id]
        ids = np.asarray(encoded, np.int32)
        return Document(ids, np.ones(len(ids), np.bool_))

    def _chat(self, record: Chat) -> tuple[str, list[tuple[int, int]]]:
        """The whole chat as text, and the (begin, end) of each of the assistant's turns in it."""
        turns = [{"role": message.role, "content": message.content} for message in record.messages]
        try:
            full = self._apply(turns)
            spans = [
                self._span(turns, k, full) for k, turn in enumerate(turns) if turn["role"] == "assistant"
            ]
            if None not in spans:
                return full, [span for span in spans if span is not None]
            if re.search(r"\{%-?\s*generation\s*-?%\}", self.template):
                return self._marked(turns)
        except (TemplateError, TypeError, ValueError) as error:  # a template refuses, or fails
            raise DatasetError(
                f"{record.where}: the model's chat template rejects this conversation: {error}",
                fix="Order the turns as it expects (mostly user and assistant in turn), or drop `system`.",
            ) from None
        raise DatasetError(
            f"{record.where}: the chat template writes an answer differently once other turns follow, "
            "so the answer cannot be told apart from the question",
            fix="Split the record into chats of one answer each, or use a base model whose template "
            "marks `{% generation %}`.",
        )

    def _span(self, turns: list[dict[str, str]], k: int, full: str) -> tuple[int, int] | None:
        """The span of turn k in `full`, or None where the template is not stable under prefixes.

        The chat up to the turn, with the prompt to answer it, must begin the chat through the turn,
        and that must begin the whole: then the turn is exactly what generation would have to write.
        """
        before = self._apply(turns[:k], add_generation_prompt=True)
        through = full if k + 1 == len(turns) else self._apply(turns[: k + 1])
        stable = full.startswith(through) and through.startswith(before)
        return (len(before), len(through)) if stable else None

    def _apply(self, turns: list[dict[str, str]], *, add_generation_prompt: bool = False) -> str:
        return str(
            self.tokenizer.apply_chat_template(
                turns,
                chat_template=self.template,
                add_generation_prompt=add_generation_prompt,
                tokenize=False,
            )
        )

    def _marked(self, turns: list[dict[str, str]]) -> tuple[str, list[tuple[int, int]]]:
        """As the template's own `{% generation %}` marks say."""
        from transformers.utils.chat_template_utils import render_jinja_template

        texts, spans = render_jinja_template(
            conversations=[turns],
            chat_template=self.template,
            return_assistant_tokens_mask=True,
            **self.tokenizer.special_tokens_map,
        )
        return texts[0], [(int(begin), int(end)) for begin, end in spans[0]]

    def _names(self) -> list[str]:
        return [str(self.tokenizer.convert_ids_to_tokens(end)) for end in sorted(self.ends)]

    def preview(self, document: Document) -> str:
        """The document as text, with its trained parts between `TRAINED_MARKS`."""
        return "".join(self._pieces(document))

    def _pieces(self, document: Document) -> Iterator[str]:
        pairs = zip(document.trained.tolist(), document.input_ids.tolist(), strict=True)
        for trained, group in groupby(pairs, key=lambda pair: pair[0]):
            text = str(self.tokenizer.decode([token for _, token in group]))
            yield f"{TRAINED_MARKS[0]}{text}{TRAINED_MARKS[1]}" if trained else text
