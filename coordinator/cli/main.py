"""The `coordinator` command line."""

from __future__ import annotations

import click

from barnraise import __version__
from barnraise.runtime.allocator import keep_freed_memory
from barnraise.runtime.console import start_logging
from barnraise.runtime.open_files import raise_open_files
from coordinator.cli.backup import backup, restore
from coordinator.cli.check import check
from coordinator.cli.delegate import delegate
from coordinator.cli.follow import closer_key, follow
from coordinator.cli.invite import invite
from coordinator.cli.key import key
from coordinator.cli.new import new
from coordinator.cli.peers import ban, peers, unban, vouch
from coordinator.cli.publish import publish
from coordinator.cli.rollback import continue_run, rollback
from coordinator.cli.serve import serve
from coordinator.cli.status import status
from coordinator.cli.verdicts import verdicts


@click.group()
@click.version_option(__version__, prog_name="coordinator")
@click.option("--debug", is_flag=True, help="More logs, and tracebacks on errors.")
def main(debug: bool) -> None:
    """Run a Barnraise training run that volunteers join.

    Exit status: 0 success, 1 a bug in Barnraise, 2 wrong command or file, 3 this machine,
    4 the network, 5 bytes that fail a check, 6 refused by a server, 7 saved state
    or a run that cannot be trained.
    """
    start_logging(debug)
    keep_freed_memory()
    raise_open_files()


for command in (
    new, check, serve, status, publish, invite, peers, ban, unban, vouch, rollback, continue_run, follow,
    closer_key, delegate, backup, restore, key, verdicts,
):  # fmt: skip
    main.add_command(command)
