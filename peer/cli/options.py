"""Arguments and options that several of `peer`'s commands have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from platformdirs import user_cache_path

from barnraise.network.blobs.rate_limiter import parse_rate
from barnraise.runtime.console import say

Command = TypeVar("Command", bound=Callable[..., Any])

source_argument = click.argument("source", metavar="SOURCE")
"""Each command's help explains SOURCE."""
revision_option = click.option(
    "--revision",
    default="main",
    show_default=True,
    help="Checkpoint: main (the promoted one), latest, best, a round or a commit.",
)
key_option = click.option("--key", help="The run's key or invite, if SOURCE does not contain it.")
base_option = click.option(
    "--base",
    type=click.Path(path_type=Path),
    help="The base model's folder or .gguf file. Default: as the run's spec says, or from the run.",
)


def _rate(_context: click.Context, _option: click.Parameter, text: str | None) -> int | None:
    return parse_rate(text) if text else None


max_download_option = click.option(
    "--max-download", metavar="RATE", callback=_rate, help="Limit of the download rate, as in 50Mbit."
)
max_upload_option = click.option(
    "--max-upload", metavar="RATE", callback=_rate, help="Limit of the upload rate, as in 5Mbit."
)
device_option = click.option(
    "--device", default="auto", show_default=True, help="auto, cpu, mps, cuda or cuda:N."
)
threads_option = click.option(
    "--threads", type=click.IntRange(min=1), help="CPU threads to compute with. Default: torch's choice."
)


def announce(doing: str) -> None:
    """Say what a command does before it imports what it needs, which takes seconds."""
    say(doing, err=True)


def place(source: str) -> str:
    """An invite or address without its key."""
    return source.partition("?")[0]


def cache_option(kept: str) -> Callable[[Command], Command]:
    """--cache-dir. kept: what it holds."""
    return click.option(
        "--cache-dir",
        type=click.Path(path_type=Path),
        default=user_cache_path("barnraise"),
        show_default="the user's cache folder",
        help=f"Folder for {kept}.",
    )
