"""The records of a dataset: conversations and texts. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: str
    """`system`, `developer`, `user`, `assistant` or `tool`."""
    content: str
    """Empty for a turn that only calls tools."""
    reasoning: str = ""
    """What the assistant thinks before it answers (`reasoning_content`)."""
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    """Calls of an assistant's turn, in OpenAI's form; `arguments` of a function is an object."""
    tool_call_id: str = ""
    """Of a tool's turn: the call that it answers."""
    name: str = ""
    """Of a tool's turn: the tool."""
    trained: bool = True
    """Whether an assistant's turn is trained on; False where its row gives it the weight 0."""


@dataclass(frozen=True)
class Chat:
    """A conversation: the assistant's turns are trained on."""

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    """JSON schemas of the tools that the assistant may call."""
    where: str = field(default="", compare=False)
    """File and line, for error messages."""

    def digest(self, seed: int) -> int:
        """256 bits that depend only on the content and the seed: they decide what is held out."""
        return _digest(seed, [[message.role, message.content] for message in self.messages])


@dataclass(frozen=True)
class Text:
    """Plain text: all of it is trained on."""

    text: str
    where: str = field(default="", compare=False)
    """File and line, for error messages."""

    def digest(self, seed: int) -> int:
        """256 bits that depend only on the content and the seed: they decide what is held out."""
        return _digest(seed, self.text)


Record = Chat | Text


def _digest(seed: int, content: object) -> int:
    return int.from_bytes(hashlib.sha256(json.dumps([seed, content]).encode()).digest(), "big")
