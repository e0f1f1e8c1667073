"""`peer chat`: a conversation with a checkpoint on this machine, and with its base model."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from barnraise.contract.archive import CHARTER
from barnraise.contract.charter import MAX_CHARTER_BYTES, Charter
from barnraise.contract.manifest import MANIFEST, MAX_MANIFEST_BYTES, Manifest
from barnraise.core.errors import MalformedRecord, ModelUnavailable, UserError
from barnraise.core.signed import open_signed
from barnraise.core.units import format_weights
from barnraise.models.base_model import resolve
from barnraise.models.causal_lm import Attention
from barnraise.models.lora_files import ADAPTER_CONFIG
from peer.archive.base_model import cached_base, model_of
from peer.chat.screen import ColumnScreen, SequentialScreen
from peer.download.download import DownloadOptions, download_to_cache
from peer.download.events import DownloadEvent
from peer.download.progress import DownloadDisplay

if TYPE_CHECKING:
    from peer.chat.generator import Generator, SamplingParams, Side
    from peer.chat.text_process import Message

Say = Callable[[str], None]
RESET = "/reset"
HELP = f"{RESET} starts a new conversation, Ctrl-D ends."


@dataclass(frozen=True)
class Loadable:
    """A checkpoint's folder and its base model's."""

    folder: Path
    base: Path | None
    """None for a whole model, unless the base is to answer as well."""
    title: str
    attention: Attention
    """The kernel that its run trains with."""


def find_checkpoint(
    options: DownloadOptions, compare: bool, cache: Path, display: DownloadDisplay[DownloadEvent]
) -> Loadable:
    """What to load: a local folder as it is, or a checkpoint that is fetched and checked first.

    compare: the base model answers, too, so that a whole model's is needed. Raises what `download` raises.
    """
    folder = Path(options.source)
    if (folder / ADAPTER_CONFIG).is_file() or (folder / "config.json").is_file():
        base = None
        if compare or (folder / ADAPTER_CONFIG).is_file():
            base = _base_of(folder, options.base, cache, display.say)
        return Loadable(folder, base, _title(folder), _attention(folder))
    if any(folder.glob("*.gguf")):
        raise UserError(
            f"{folder} holds a GGUF file, which is for llama.cpp",
            fix="Give the run's invite, or the folder of a checkpoint in its trained or merged form.",
        )
    with display:
        found = asyncio.run(download_to_cache(options, cache, display, time.monotonic, with_base=compare))
    return Loadable(found.folder, found.base, _title(found.folder), _attention(found.folder))


def _base_of(folder: Path, given: Path | None, cache: Path, say: Say) -> Path:
    """The base model of the checkpoint in a folder. Raises ModelUnavailable, HashMismatch."""
    if given is not None:
        return resolve(str(given), None, cache, progress=say).path
    if not (folder / CHARTER).is_file():
        raise ModelUnavailable(
            f"{folder} does not name its exact base model",
            fix="Give that model's folder or .gguf file with --base.",
        )
    wire = (folder / CHARTER).read_bytes()
    charter = open_signed(Charter, wire, signer=None, limit=MAX_CHARTER_BYTES).value
    model = charter.spec.model
    kept = cached_base(charter, cache)
    source = model.source if kept is None else str(model_of(kept))
    try:
        found = resolve(source, model.revision, cache, expected=charter.model_files, progress=say)
    except ModelUnavailable as error:
        raise ModelUnavailable(
            error.problem, fix="Give its folder or .gguf file with --base, or chat from the run's invite."
        ) from None
    return found.path


def _attention(folder: Path) -> Attention:
    """By the charter in the folder; any other model gets what its kind has."""
    if not (folder / CHARTER).is_file():
        return "auto"
    wire = (folder / CHARTER).read_bytes()
    return open_signed(Charter, wire, signer=None, limit=MAX_CHARTER_BYTES).value.spec.model.attention


def _title(folder: Path) -> str:
    """The name of a checkpoint on the screen."""
    if not (folder / MANIFEST).is_file():
        return folder.name
    try:
        wire = (folder / MANIFEST).read_bytes()
        manifest = open_signed(Manifest, wire, signer=None, limit=MAX_MANIFEST_BYTES).value
    except MalformedRecord:
        return folder.name
    return f"{manifest.run}, {format_weights(manifest.round, manifest.averaged)}"


@dataclass
class Conversation:
    """A conversation with each side, with the same prompts."""

    generator: Generator
    titles: dict[Side, str]
    """By side, in the order of their answers."""
    sampling: SamplingParams
    screen: ColumnScreen | SequentialScreen
    _messages: dict[Side, list[Message]] = field(default_factory=dict)

    def ask(self, text: str) -> None:
        """Show the answers to `text`. Raises ContextExceeded."""
        with self.screen.answering(tuple(self.titles.values())) as writers:
            for side, write in zip(self.titles, writers, strict=True):
                messages = [*self._messages.get(side, []), {"role": "user", "content": text}]
                answer = self.generator.answer(side, messages, self.sampling, write)
                self._messages[side] = [*messages, {"role": "assistant", "content": answer}]

    def reset(self) -> None:
        self._messages.clear()


def read_lines() -> Iterator[str]:
    """The lines typed until Ctrl-D, or those of a piped file. Ctrl-C raises KeyboardInterrupt."""
    typed = sys.stdin.isatty()
    if typed and importlib.util.find_spec("readline"):
        importlib.import_module("readline")  # line editing in `input`
    while True:
        try:
            yield input("> " if typed else "")
        except EOFError:
            print(end="\n" if typed else "")
            return


def answer_lines(conversation: Conversation, lines: Iterable[str], say: Say) -> None:
    """Answer each line. An error about a conversation that is too long is shown; /reset ends it."""
    from peer.chat.generator import ContextExceeded

    for line in lines:
        match line.strip():
            case "":
                continue
            case text if text == RESET:
                conversation.reset()
                say("new conversation")
            case text:
                try:
                    conversation.ask(text)
                except ContextExceeded as error:
                    say(str(error))
