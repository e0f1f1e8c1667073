"""`coordinator check`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from barnraise.contract.spec_file import read_spec
from barnraise.network.blobs.rate_limiter import RateLimiter
from barnraise.runtime.console import FiniteRange, plain_errors, say
from coordinator.cli.options import (
    VOLUNTEERS,
    cache_option,
    gigabytes,
    max_download_option,
    rehearsal_option,
    spec_argument,
)


@click.command()
@spec_argument
@cache_option
@click.option(
    "--peers",
    type=click.IntRange(min=1),
    default=VOLUNTEERS,
    show_default=True,
    help="Volunteers to plan for.",
)
@click.option(
    "--uplink",
    type=FiniteRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="Their upload speed, in Mbit/s.",
)
@rehearsal_option
@max_download_option
@plain_errors
def check(
    spec_path: Path,
    cache_dir: Path,
    peers: int,
    uplink: float,
    rehearsal_memory: float | None,
    max_download: int | None,
) -> None:
    """Validate RUN.TOML and report what the run needs.

    Downloads the base model and tokenizes the data, as `serve` does, but starts nothing.
    """
    from barnraise.rehearsal.runner import Limits, rehearse
    from coordinator.messages.check_report import check_report
    from coordinator.setup.check import check as check_run

    rehearsing = partial(rehearse, limits=Limits(memory=gigabytes(rehearsal_memory)))
    limiter = RateLimiter(max_download)
    say(check_report(check_run(read_spec(spec_path), cache_dir, peers, uplink, rehearsing, limiter)))
