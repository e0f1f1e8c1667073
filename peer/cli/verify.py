"""`peer verify`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

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


@click.command()
@source_argument
@revision_option
@click.option(
    "--from",
    "start",
    type=click.IntRange(min=0),
    metavar="ROUND",
    help="Start from the checkpoint of ROUND instead of the base model: the rounds before it are not proved.",
)
@click.option(
    "--log",
    metavar="ARCHIVE",
    help="The run's archive, given as SOURCE is, if SOURCE is one checkpoint.",
)
@key_option
@base_option
@max_download_option
@cache_option("base models and downloaded files")
@plain_errors
def verify(
    source: str,
    revision: str,
    start: int | None,
    log: str | None,
    key: str | None,
    base: Path | None,
    max_download: int | None,
    cache_dir: Path,
) -> None:
    """Prove that a checkpoint is the result of its run's log. Exit status 5 if it is not.

    SOURCE is a run's invite, or the http(s) address or local folder of its archive or of one checkpoint.
    Every round is replayed from the base model; only the run's key is trusted.
    """
    announce(f"opening {place(source)}")

    import time

    from barnraise.core.errors import TrustError
    from barnraise.runtime.plain_console import PlainConsole
    from peer.messages.verify import difference_message, proof_message, replay_rate, verify_message
    from peer.verify.display import verify_display
    from peer.verify.proof import Proved
    from peer.verify.verify import VerifyOptions
    from peer.verify.verify import verify as prove

    options = VerifyOptions(source, log, key, revision, start, base, max_download)
    with verify_display(PlainConsole(stderr=True), verify_message, replay_rate) as display:
        outcome = asyncio.run(prove(options, cache_dir, display, time.monotonic))
    if not isinstance(outcome, Proved):
        say(difference_message(outcome), err=True)
        sys.exit(TrustError.exit_code)
    say(proof_message(outcome))
