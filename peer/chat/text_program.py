"""The program that runs a checkpoint's chat template and tokenizer: a conversation to tokens, and back.

    python -m peer.chat.text_program FOLDER

Both come from others. A template is a program, and a tokenizer has regular expressions: either can run for
ever or fill the memory, inside calls that nothing interrupts. So they have a process of their own, which its
parent ends (`peer.chat.text_process`). It reads a request as one line of JSON and answers with one.
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2.exceptions import TemplateError

from barnraise.core.errors import BarnraiseError
from barnraise.models.causal_lm import first_words, quiet, unreadable
from barnraise.models.tokenizer_files import load_tokenizer

ADDRESS_SPACE = 16 * 2**30
"""Bytes that it may reserve, where the system has such a limit; its parent looks at what it uses."""
_FAILURES = (
    TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RuntimeError,
    MemoryError, OSError,
)  # fmt: skip
"""What a template raises, by intention or by a mistake. Anything else ends the program."""
_MARK = "x"
"""A placeholder answer: the text after it shows how a template ends one."""


def main() -> None:
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    sys.modules["torch"] = None  # type: ignore[assignment]  # no tokenizer needs it, and it takes seconds
    folder = Path(sys.argv[1])
    replies, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no reply
    try:
        with quiet(), unreadable(folder):
            tokenizer = load_tokenizer(folder)
    except BarnraiseError as error:
        _write(replies, {"error": error.problem})
        return
    _write(replies, answered(tokenizer, {"about": True}))
    for line in sys.stdin:
        _write(replies, answered(tokenizer, json.loads(line)))


def _write(replies: Any, reply: Mapping[str, Any]) -> None:
    replies.write(json.dumps(reply) + "\n")
    replies.flush()


def answered(tokenizer: Any, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """The reply to a request; where the template or the tokenizer fails, its own account of it."""
    try:
        with quiet():
            return _reply(tokenizer, request)
    except _FAILURES as error:
        return {"error": f"{type(error).__name__}: {first_words(error)}"[:500]}


def _reply(tokenizer: Any, request: Mapping[str, Any]) -> Mapping[str, Any]:
    if "about" in request:
        return {
            "template": tokenizer.chat_template is not None,
            "pad": tokenizer.pad_token_id or 0,
            "ends": sorted(_ends(tokenizer)),
        }
    if "messages" in request:
        text = tokenizer.apply_chat_template(request["messages"], tokenize=False, add_generation_prompt=True)
        return {"ids": tokenizer(text, add_special_tokens=False).input_ids}
    if "text" in request:
        return {"ids": tokenizer(request["text"]).input_ids}
    return {"text": tokenizer.decode(request["ids"], skip_special_tokens=True)}


def _ends(tokenizer: Any) -> set[int]:
    """Tokens that end an answer: the tokenizer's own, and the one that the template adds."""
    ends = {tokenizer.eos_token_id} - {None}
    if tokenizer.chat_template is not None:
        turn = [{"role": "user", "content": _MARK}, {"role": "assistant", "content": _MARK}]
        text = tokenizer.apply_chat_template(turn, tokenize=False)
        behind = tokenizer(text.rpartition(_MARK)[2].strip(), add_special_tokens=False).input_ids
        added = tokenizer.added_tokens_decoder
        ends |= {token for token in behind[:1] if token in added and added[token].special}
    return ends


if __name__ == "__main__":
    main()
