"""Renders records to documents, of which chats fit into a sample, and counts what is lost.

A chat that is too long loses whole exchanges at its start, or is dropped. Text is not cut here: `pack.split`
divides it, and nothing of it is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from coordinator.dataset.pack import Document
from coordinator.dataset.records import Chat, Message, Record
from coordinator.dataset.rendering.counts import RenderCounts
from coordinator.dataset.rendering.render import Rendered, Renderer
from coordinator.dataset.rows.row import BadRow

TooLong = Literal["trim", "drop"]
LONG_CHARACTERS = 1 << 18
"""Of a chat whose tokens are counted in parts before it is encoded as a whole: that takes about 200 bytes of
memory for each byte."""


def documents(
    renderer: Renderer, records: Sequence[Record], length: int, too_long: TooLong, counts: RenderCounts
) -> list[Document | None]:
    """The document of each of `records`; that of a chat has at most `length` tokens.

    None for records that cannot be rendered, texts of one token and chats that are dropped, all counted.
    """
    texts = [renderer.text_of(record) for record in records]
    beyond = [_tokens_beyond(renderer, text, length) for text in texts]
    short = [
        text for text, tokens in zip(texts, beyond, strict=True) if isinstance(text, Rendered) and not tokens
    ]
    encoded = iter(renderer.encode(short))
    found: list[Document | None] = []
    for record, text, tokens in zip(records, texts, beyond, strict=True):
        if tokens and isinstance(record, Chat):
            found.append(_fitted(renderer, record, tokens, length, too_long, counts))
            continue
        document = next(encoded) if isinstance(text, Rendered) else text
        if isinstance(document, BadRow) or isinstance(text, BadRow):
            assert isinstance(document, BadRow)
            counts.add_bad(document)
            found.append(None)
        elif isinstance(record, Chat) and len(document.input_ids) > length:
            found.append(_fitted(renderer, record, len(document.input_ids), length, too_long, counts))
        elif len(document.input_ids) < 2:
            counts.short += 1
            found.append(None)
        else:
            counts.add(text)
            found.append(document)
    return found


def _tokens_beyond(renderer: Renderer, text: Rendered | BadRow, length: int) -> int:
    """The tokens of a long chat that has more than `length`, counted in bounded memory; 0 for any other."""
    if not isinstance(text, Rendered) or text.spans is None or len(text.text) <= LONG_CHARACTERS:
        return 0
    tokens = renderer.count_tokens(text.text)
    return tokens if tokens > length else 0


def _fitted(
    renderer: Renderer, chat: Chat, tokens: int, length: int, too_long: TooLong, counts: RenderCounts
) -> Document | None:
    """The document of a chat that is too long without its first exchanges, or None, counted either way.

    It loses as few exchanges as possible: their number is searched for by halving, because fewer exchanges
    take fewer tokens.
    """
    opening, exchanges = exchanges_of(chat)
    best: tuple[Rendered, Document, int] | None = None
    fewest, most = 1, _last_trained(exchanges) if too_long == "trim" else 0
    while fewest <= most:
        removed = (fewest + most) // 2
        made = _rendered(renderer, _joined(chat, opening, exchanges[removed:]), length)
        if made is not None and len(made[1].input_ids) <= length:
            best, most = (*made, removed), removed - 1
        else:
            fewest = removed + 1
    if best is None:
        counts.add_dropped(tokens)
        return None
    rendered, document, removed = best
    counts.add(rendered)
    counts.add_trimmed(sum(map(len, exchanges[:removed])), tokens - len(document.input_ids))
    return document


def _rendered(renderer: Renderer, chat: Chat, length: int) -> tuple[Rendered, Document] | None:
    """The chat as text and as a document; None where the template rejects it, or it is far too long."""
    rendered = renderer.text_of(chat)
    if isinstance(rendered, BadRow) or _tokens_beyond(renderer, rendered, length):
        return None
    document = renderer.encode([rendered])[0]
    return (rendered, document) if isinstance(document, Document) else None


def exchanges_of(chat: Chat) -> tuple[tuple[Message, ...], list[tuple[Message, ...]]]:
    """The system turns that open a chat, and its exchanges: each a question and all turns that answer it."""
    messages = chat.messages
    begin = next((k for k, m in enumerate(messages) if m.role not in ("system", "developer")), len(messages))
    starts = [
        k
        for k in range(begin, len(messages))
        if k == begin or (messages[k].role == "user" and messages[k - 1].role != "user")
    ]
    ends = [*starts[1:], len(messages)]
    exchanges = [messages[start:end] for start, end in zip(starts, ends, strict=True)]
    if len(exchanges) > 1 and all(message.role != "assistant" for message in exchanges[-1]):
        exchanges[-2:] = [exchanges[-2] + exchanges[-1]]  # a question without an answer trains nothing alone
    return messages[:begin], exchanges


def _last_trained(exchanges: list[tuple[Message, ...]]) -> int:
    """The number of the last exchange that is trained on."""
    return max((k for k, turns in enumerate(exchanges) if any(map(_is_trained, turns))), default=0)


def _is_trained(message: Message) -> bool:
    return message.role == "assistant" and message.trained


def _joined(chat: Chat, opening: tuple[Message, ...], exchanges: list[tuple[Message, ...]]) -> Chat:
    return replace(chat, messages=opening + tuple(message for turns in exchanges for message in turns))
