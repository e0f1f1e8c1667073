"""`peer chat`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from barnraise.runtime.console import FiniteRange, plain_errors, say_line
from peer.cli.options import (
    announce,
    base_option,
    cache_option,
    device_option,
    key_option,
    max_download_option,
    place,
    revision_option,
    source_argument,
    threads_option,
)


@click.command()
@source_argument
@revision_option
@click.option("--compare", is_flag=True, help="Let the base model answer as well, with the same settings.")
@click.option("--prompt", help="Answer this prompt and exit. Default: read prompts until Ctrl-D.")
@click.option(
    "--max-tokens",
    type=click.IntRange(min=1),
    default=512,
    show_default=True,
    help="Maximum per answer.",
)
@click.option(
    "--temperature",
    type=FiniteRange(min=0),
    default=0.0,
    show_default=True,
    help="0: greedy decoding.",
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Random seed.")
@device_option
@threads_option
@key_option
@base_option
@max_download_option
@cache_option("checkpoints and base models")
@plain_errors
def chat(
    source: str,
    revision: str,
    compare: bool,
    prompt: str | None,
    max_tokens: int,
    temperature: float,
    seed: int,
    device: str,
    threads: int | None,
    key: str | None,
    base: Path | None,
    max_download: int | None,
    cache_dir: Path,
) -> None:
    """Chat with a checkpoint on this machine. Ctrl-C ends.

    SOURCE is a run's invite, or the http(s) address or local folder of its archive or of one checkpoint, or
    the folder of any model or adapter.
    """
    announce(f"opening {place(source)}")

    from barnraise.runtime.plain_console import PlainConsole
    from peer.chat.screen import screen_for
    from peer.chat.session import HELP, Conversation, answer_lines, find_checkpoint, read_lines
    from peer.download.download import DownloadOptions
    from peer.download.progress import download_display
    from peer.messages.download import download_message

    options = DownloadOptions(source, key, revision, base=base, max_download=max_download)
    try:
        display = download_display(PlainConsole(stderr=True), download_message)
        found = find_checkpoint(options, compare, cache_dir, display)
        say_line(f"loading {found.title}", err=True)

        from peer.chat.generator import Generator, SamplingParams, Side
        from peer.training.device import pick_device

        generator = Generator(found.folder, found.base, pick_device(device, threads), found.attention)
        titles: dict[Side, str] = {"base": "base model"} if compare else {}
        titles["checkpoint"] = found.title
        screen = screen_for(PlainConsole(), len(titles))
        conversation = Conversation(generator, titles, SamplingParams(max_tokens, temperature, seed), screen)
        if not generator.has_template:
            announce("this model has no chat template: it continues your text")
        if prompt is not None:
            conversation.ask(prompt)
        else:
            announce(HELP)
            answer_lines(conversation, read_lines(), announce)
    except KeyboardInterrupt:
        announce("")
        sys.exit(130)
