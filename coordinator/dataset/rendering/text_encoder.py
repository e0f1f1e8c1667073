"""Encodes plain texts with one tokenizer: many at a time, and long ones in parts."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from barnraise.contract.shards import Ints
from coordinator.dataset.pack import Document

PART_CHARACTERS = 1 << 16
"""A longer text is encoded in parts: tokenizers takes about 200 bytes for each byte of one text."""
GROUP_CHARACTERS = 1 << 19
"""Characters of the parts that are encoded at a time."""
_TRIES = 64
"""Places that are looked at for a cut."""


class TextEncoder:
    """Turns texts into documents, which begin with begin-of-sequence where the tokenizer adds it, and end
    with end-of-sequence, each once."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._bos, self._eos = tokenizer.bos_token_id, tokenizer.eos_token_id

    def encode(self, texts: Sequence[str]) -> list[Document]:
        """The document of each text."""
        backend = self._tokenizer.backend_tokenizer
        short = iter(backend.encode_batch_fast([text for text in texts if len(text) <= PART_CHARACTERS]))
        return [
            self._document(next(short).ids) if len(text) <= PART_CHARACTERS else self._encode_long(text)
            for text in texts
        ]

    def _document(self, ids: list[int]) -> Document:
        begin = _repeated_at_start(ids, self._bos)
        ids = ids[begin:] if begin else ids
        while len(ids) > 1 and ids[-1] == ids[-2] == self._eos:
            ids.pop()
        if not ids or ids[-1] != self._eos:
            ids.append(self._eos)
        return Document(_array(ids), np.ones(len(ids), np.bool_))

    def _encode_long(self, text: str) -> Document:
        backend = self._tokenizer.backend_tokenizer
        prefix, suffix = self._special_tokens
        arrays = [_array(prefix)]
        for group in _groups(parts(text)):
            arrays += [
                _array(encoding.ids)
                for encoding in backend.encode_batch_fast(group, add_special_tokens=False)
            ]
        last = arrays.pop().tolist()
        arrays.append(self._document(last + suffix).input_ids)
        ids = np.concatenate(arrays)
        ids = ids[_repeated_at_start(ids[:_TRIES].tolist(), self._bos) :]
        return Document(ids, np.ones(len(ids), np.bool_))

    @cached_property
    def _special_tokens(self) -> tuple[list[int], list[int]]:
        """What the tokenizer adds before and after a text."""
        backend = self._tokenizer.backend_tokenizer
        bare = backend.encode("a", add_special_tokens=False).ids
        whole = backend.encode("a").ids
        begin = next(i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)
        return whole[:begin], whole[begin + len(bare) :]


def _array(ids: list[int]) -> Ints:
    """The ids as an array. `struct` takes three quarters of the time that `numpy.array` takes."""
    return np.frombuffer(struct.pack(f"={len(ids)}i", *ids), np.int32)


def _repeated_at_start(ids: list[int], token: int | None) -> int:
    """How often `token` stands at the start beyond once."""
    count = 0
    while token is not None and count + 1 < len(ids) and ids[count] == ids[count + 1] == token:
        count += 1
    return count


def parts(text: str, characters: int = PART_CHARACTERS) -> Iterator[str]:
    """Parts of at most `characters` that together are the text, cut between lines or before a space.

    There, tokenizers that divide texts into words before they look for tokens cut as well, so that the parts
    have the same tokens as the whole.
    """
    begin = 0
    while len(text) - begin > characters:
        end = _cut(text, begin + characters // 2, begin + characters)
        yield text[begin:end]
        begin = end
    yield text[begin:]


def _cut(text: str, begin: int, end: int) -> int:
    """A place for a cut after `begin` and at most at `end`: the last good one, or `end`."""
    for space, offset in (("\n", 1), (" ", 0)):
        place = end
        for _ in range(_TRIES):
            place = text.rfind(space, begin, place)
            if place <= begin:
                break
            if not text[place - 1].isspace() and not text[place + 1].isspace():
                return place + offset
    return end


def _groups(texts: Iterator[str]) -> Iterator[list[str]]:
    group: list[str] = []
    size = 0
    for text in texts:
        group.append(text)
        size += len(text)
        if size >= GROUP_CHARACTERS:
            yield group
            group, size = [], 0
    if group:
        yield group
