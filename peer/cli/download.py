"""`peer download`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from barnraise.runtime.console import plain_errors, say
from peer.cli.options import (
    announce,
    base_option,
    cache_option,
    key_option,
    max_download_option,
    place,
    revision_option,
    source_argument,
)

if TYPE_CHECKING:
    from peer.download.select import Format


@click.command()
@source_argument
@revision_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["adapter", "model", "merged", "gguf", "base", "data"]),
    help="Default: the trained form. merged and gguf are converted here if the run has not published them.",
)
@click.option(
    "--mirror", "mirrors", multiple=True, metavar="URL", help="Another server with a copy; may be repeated."
)
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Default: RUN-round-NNNNNN.")
@key_option
@base_option
@max_download_option
@cache_option("base models")
@plain_errors
def download(
    source: str,
    revision: str,
    form: Format | None,
    mirrors: tuple[str, ...],
    output: Path | None,
    key: str | None,
    base: Path | None,
    max_download: int | None,
    cache_dir: Path,
) -> None:
    """Download a checkpoint and check every byte. The same command resumes a broken download.

    SOURCE is a run's invite, or the http(s) address or local folder of its archive or of one checkpoint.
    An address can end with ?key=… as an invite does.
    """
    announce(f"opening {place(source)}")

    import time

    from barnraise.runtime.plain_console import PlainConsole
    from peer.download.download import Downloaded, DownloadOptions
    from peer.download.download import download as fetch
    from peer.download.progress import download_display
    from peer.messages.download import download_message

    options = DownloadOptions(source, key, revision, form, mirrors, output, base, max_download)
    with download_display(PlainConsole(stderr=True), download_message) as display:
        done = asyncio.run(fetch(options, cache_dir, display, time.monotonic))
    if isinstance(done, Downloaded):
        say(f"{done.folder}: every file matches what the run's key signed")
    else:
        say(
            f"{done.folder}: converted here from a checkpoint that the run's key signed;"
            " the result is not signed"
        )
