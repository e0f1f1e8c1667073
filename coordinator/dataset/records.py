"""The records of a dataset: conversations and texts. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Message(NamedTuple):
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
    """Of a tool's turn: the tool. Of another's: who speaks."""
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
        turns: object = [_content(message) for message in self.messages]
        return _digest(seed, {"turns": turns, "tools": self.tools} if self.tools else turns)


@dataclass(frozen=True)
class Text:
    """Plain text: all of it is trained on."""

    text: str
    where: str = field(default="", compare=False)
    """File and line, for error messages."""

    def digest(self, seed: int) -> int:
        """256 bits that depend only on the content and the seed: they decide what is held out."""
        prefix = f"barnraise/text/1/{seed}/".encode()
        return _hash(prefix + self.text.encode("utf-8", "surrogatepass"))


Record = Chat | Text

_AS_JSON = json.JSONEncoder(default=str).encode


def _content(message: Message) -> list[object]:
    """What a message says, whether or not it is trained on."""
    more = (message.reasoning, message.tool_calls, message.tool_call_id, message.name)
    return [message.role, message.content, *(more if any(more) else ())]


def _digest(seed: int, content: object) -> int:
    return _hash(_AS_JSON([seed, content]).encode())


def _hash(content: bytes) -> int:
    return int.from_bytes(hashlib.sha256(content).digest(), "big")
