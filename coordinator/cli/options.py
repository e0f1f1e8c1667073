"""Options and arguments that several commands have."""

from __future__ import annotations

from pathlib import Path

import click
from platformdirs import user_cache_path

from barnraise.network.blobs.rate_limiter import parse_rate
from barnraise.runtime.console import FiniteRange

DEFAULT_PORT = 7451
"""TCP port that volunteers join at."""

VOLUNTEERS = 4
"""Those that a run is planned for, unless their number is given."""

spec_argument = click.argument("spec_path", metavar="RUN.TOML", type=click.Path(path_type=Path))
cache_option = click.option(
    "--cache-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=user_cache_path("barnraise"),
    show_default="the user's cache folder",
    help="Folder for downloaded base models.",
)


rehearsal_option = click.option(
    "--rehearsal-memory",
    type=FiniteRange(min=0),
    metavar="GB",
    help="Memory for trying one step, in GB. Default: what is free. 0: the first volunteer tries it.",
)


max_download_option = click.option(
    "--max-download",
    metavar="RATE",
    callback=lambda _context, _option, text: parse_rate(text) if text else None,
    help="Limit of the download rate of the base model, as in 50Mbit.",
)


def gigabytes(number: float | None) -> int | None:
    return None if number is None else int(number * 1e9)
