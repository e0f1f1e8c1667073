"""The process with a checkpoint's template and tokenizer (`text_program`), ended where it takes too much."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any, NoReturn

import psutil

from barnraise.core.errors import InvalidRun, ModelUnavailable
from barnraise.network import die_with_parent

Message = dict[str, str]
"""As chat templates take them: `role` and `content`."""


@dataclass(frozen=True)
class TextLimits:
    """What a template and a tokenizer may take."""

    start: float = 300.0
    """Seconds to load the tokenizer; the libraries alone take ten on a slow machine."""
    answer: float = 30.0
    """Seconds for one conversation, of which it takes milliseconds."""
    memory: int = 3 * 2**30
    """Bytes. The largest tokenizers take one gigabyte."""
    poll: float = 0.1
    """Seconds between two looks at the memory: a gigabyte is filled in about that time."""


TEXT_LIMITS = TextLimits()
_FIX = "Use another checkpoint, and report it to the run's maintainer: no model needs that."


class TextFailed(InvalidRun):
    """A checkpoint's template or tokenizer fails, or takes too much."""


class TextProcess:
    """The template and the tokenizer of the checkpoint in a folder."""

    def __init__(self, folder: Path, limits: TextLimits = TEXT_LIMITS) -> None:
        """Starts to load; `wait` returns when it is done."""
        self._folder, self._limits = folder, limits
        program = [sys.executable, "-m", "peer.chat.text_program", str(folder)]
        self._process = subprocess.Popen(
            [sys.executable, die_with_parent.__file__, str(os.getpid()), *program],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._close = weakref.finalize(self, _end, self._process)
        self._ended_for = ""
        self._about: Mapping[str, Any] | None = None

    def wait(self) -> None:
        """Wait for the tokenizer. Raises ModelUnavailable where it cannot be read, TextFailed."""
        about = self._read("loading it", self._limits.start)
        if "error" in about:
            self.close()
            raise ModelUnavailable(
                f"the tokenizer in {self._folder} cannot be used: {about['error']}",
                fix="Get the checkpoint again, or use another one.",
            )
        self._about = about

    @property
    def has_template(self) -> bool:
        """Whether the tokenizer has a chat template."""
        return bool(self._known()["template"])

    @property
    def pad(self) -> int:
        """The token that fills."""
        return int(self._known()["pad"])

    @property
    def ends(self) -> frozenset[int]:
        """Tokens that end an answer."""
        return frozenset(map(int, self._known()["ends"]))

    def tokens(self, messages: Sequence[Message]) -> list[int]:
        """A conversation as tokens; without a template, its last text. Raises TextFailed."""
        asked = {"messages": list(messages)} if self.has_template else {"text": messages[-1]["content"]}
        return [int(token) for token in self._ask(asked)["ids"]]

    def decode(self, ids: Any, skip_special_tokens: bool = True) -> str:
        """The text of tokens, as transformers' streamers call it. Raises TextFailed."""
        return str(self._ask({"ids": [int(token) for token in ids]})["text"])

    def close(self) -> None:
        """End the process."""
        self._close()

    def _known(self) -> Mapping[str, Any]:
        if self._about is None:
            self.wait()
        return self._about or {}

    def _ask(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        self._known()
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            self._failed("it ended")
        found = self._read("one conversation", self._limits.answer)
        if "error" in found:
            self._failed(str(found["error"]))
        return found

    def _read(self, doing: str, seconds: float) -> Mapping[str, Any]:
        assert self._process.stdout is not None
        done = Event()
        watcher = Thread(target=self._watch, args=(done, doing, seconds), daemon=True)
        watcher.start()
        line = self._process.stdout.readline()
        done.set()
        watcher.join()
        if not line.endswith(b"\n"):  # it ended, maybe within a reply
            self._failed(self._ended_for or "it ended")
        found: Mapping[str, Any] = json.loads(line)
        return found

    def _watch(self, done: Event, doing: str, seconds: float) -> None:
        """End the process where it takes longer than `seconds`, or more memory than the limit."""
        looks = max(1, round(seconds / self._limits.poll))
        for _ in range(looks):
            if done.wait(self._limits.poll):
                return
            if self._used() > self._limits.memory:
                self._ended_for = f"more than {self._limits.memory / 2**30:.0f} GiB for {doing}"
                break
        else:
            self._ended_for = f"more than {seconds:.0f} s for {doing}"
        self._process.kill()

    def _used(self) -> int:
        try:
            return int(psutil.Process(self._process.pid).memory_info().rss)
        except psutil.NoSuchProcess:
            return 0

    def _failed(self, why: str) -> NoReturn:
        raise TextFailed(f"the chat template or tokenizer in {self._folder} fails: {why}", fix=_FIX)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):  # what was not sent
                pipe.close()
