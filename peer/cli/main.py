"""The `peer` command line."""

from __future__ import annotations

import click

from barnraise import __version__
from barnraise.runtime.allocator import keep_freed_memory
from barnraise.runtime.console import start_logging
from barnraise.runtime.open_files import raise_open_files
from peer.cli.audit import audit
from peer.cli.chat import chat
from peer.cli.download import download
from peer.cli.evaluate import evaluate
from peer.cli.join import join
from peer.cli.key import key
from peer.cli.seed import seed
from peer.cli.verify import verify


@click.group()
@click.version_option(__version__, prog_name="peer")
@click.option("--debug", is_flag=True, help="More logs, and tracebacks on errors.")
def main(debug: bool) -> None:
    """Take part in a Barnraise training run, or use its checkpoints.

    Exit status: 0 success, 1 a bug in Barnraise, 2 wrong command or file, 3 this machine,
    4 the network, 5 bytes that fail a check, 6 refused by the coordinator, 7 saved state
    or a run that cannot be trained.
    """
    start_logging(debug)
    keep_freed_memory()
    raise_open_files()


for command in (join, download, seed, verify, key, evaluate, audit, chat):
    main.add_command(command)
