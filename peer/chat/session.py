"""`peer chat`: talk with a checkpoint on this machine, and with the model that it began as."""

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

from rich.console import Console

from barnraise.contract.archive import CHARTER
from barnraise.contract.charter import MAX_CHARTER_BYTES, Charter
from barnraise.contract.manifest import MANIFEST, MAX_MANIFEST_BYTES, Manifest
from barnraise.core.errors import MalformedRecord, ModelUnavailable, UserError
from barnraise.core.signed import open_signed
from barnraise.models.base_model import resolve
from barnraise.models.lora_files import ADAPTER_CONFIG
from peer.chat.screen import ColumnScreen, SequentialScreen
from peer.download.download import DownloadOptions, download_to_cache
from peer.download.progress import download_display

if TYPE_CHECKING:
    from peer.chat.generator import Generator, Message, SamplingParams, Side

Say = Callable[[str], None]
RESET = "/reset"
HELP = f"{RESET} begins anew, Ctrl-D ends."


@dataclass(frozen=True)
class Loadable:
    """A checkpoint's folder, and the model that it was trained on."""

    folder: Path
    base: Path | None
    """None for a whole model whose base nobody asked for."""
    title: str


def find(options: DownloadOptions, compare: bool, cache: Path, say: Say) -> Loadable:
    """What to load: a folder of this machine as it is, or a checkpoint that is fetched and checked first.

    compare: whether the base model of a whole model is needed, too. Raises what `download` raises.
    """
    folder = Path(options.source)
    if (folder / ADAPTER_CONFIG).is_file() or (folder / "config.json").is_file():
        base = None
        if compare or (folder / ADAPTER_CONFIG).is_file():
            base = _base_of(folder, options.base, cache, say)
        return Loadable(folder, base, _title(folder))
    if any(folder.glob("*.gguf")):
        raise UserError(
            f"{folder} holds a GGUF file, which is for llama.cpp",
            fix="Give the run's invite, or the folder of a checkpoint in its trained or merged form.",
        )
    with download_display(Console(stderr=True)) as display:
        found = asyncio.run(download_to_cache(options, cache, display, time.monotonic, with_base=compare))
    return Loadable(found.folder, found.base, _title(found.folder))


def _base_of(folder: Path, given: Path | None, cache: Path, say: Say) -> Path:
    """The model that the checkpoint in a folder was trained on. Raises ModelUnavailable, HashMismatch."""
    if given is not None:
        return resolve(str(given), None, cache, progress=say).path
    if not (folder / CHARTER).is_file():
        raise ModelUnavailable(
            f"{folder} does not say exactly which base model it is for",
            fix="Give that model's folder or .gguf file with --base.",
        )
    wire = (folder / CHARTER).read_bytes()
    charter = open_signed(Charter, wire, signer=None, limit=MAX_CHARTER_BYTES).value
    model = charter.spec.model
    try:
        found = resolve(model.source, model.revision, cache, expected=charter.model_files, progress=say)
    except ModelUnavailable as error:
        raise ModelUnavailable(
            error.problem, fix="Give its folder or .gguf file with --base, or chat from the run's invite."
        ) from None
    return found.path


def _title(folder: Path) -> str:
    """What a checkpoint is called on the screen."""
    if not (folder / MANIFEST).is_file():
        return folder.name
    try:
        wire = (folder / MANIFEST).read_bytes()
        manifest = open_signed(Manifest, wire, signer=None, limit=MAX_MANIFEST_BYTES).value
    except MalformedRecord:
        return folder.name
    return f"{manifest.run}, round {manifest.round}"


@dataclass
class Conversation:
    """One with each side, to which the same is said."""

    generator: Generator
    titles: dict[Side, str]
    """By side, in the order of their answers."""
    sampling: SamplingParams
    screen: ColumnScreen | SequentialScreen
    _said: dict[Side, list[Message]] = field(default_factory=dict)

    def ask(self, text: str) -> None:
        """Show the answers to `text`. Raises TooLong."""
        with self.screen.answering(tuple(self.titles.values())) as tells:
            for side, tell in zip(self.titles, tells, strict=True):
                said = [*self._said.get(side, []), {"role": "user", "content": text}]
                answer = self.generator.answer(side, said, self.sampling, tell)
                self._said[side] = [*said, {"role": "assistant", "content": answer}]

    def reset(self) -> None:
        self._said.clear()


def read_lines() -> Iterator[str]:
    """What somebody types, until Ctrl-D, or what a file says. Ctrl-C raises KeyboardInterrupt."""
    typed = sys.stdin.isatty()
    if typed and importlib.util.find_spec("readline"):
        importlib.import_module("readline")  # gives `input` the keys to edit a line
    while True:
        try:
            yield input("> " if typed else "")
        except EOFError:
            print(end="\n" if typed else "")
            return


def talk(conversation: Conversation, lines: Iterable[str], say: Say) -> None:
    """Answer line after line. What is too long is told, and the next line may be /reset."""
    from peer.chat.generator import ContextExceeded

    for line in lines:
        match line.strip():
            case "":
                continue
            case text if text == RESET:
                conversation.reset()
                say("begun anew")
            case text:
                try:
                    conversation.ask(text)
                except ContextExceeded as error:
                    say(str(error))
