"""The command `coordinator key`: where a run's key is, a copy of it, and whether a copy is the right one."""

from __future__ import annotations

from pathlib import Path

import click

from barnraise.runtime.console import plain_errors
from coordinator.run_folder import run_folder

_run = click.argument("run", metavar="RUN|FOLDER")
_file = click.argument("file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))


@click.group()
def key() -> None:
    """Show, copy and check the private key of a run.

    Everyone who has the key can sign for the run; without it nobody can continue it. RUN: the name of a run
    that is served on this machine without --data-dir. FOLDER: the folder of a run.
    """


@key.command()
@_run
@plain_errors
def show(run: str) -> None:
    """Show where the key is, and the public key, which each invite has."""
    from coordinator.recovery.key_copies import key_path, needed_key

    folder = run_folder(run)
    click.echo(f"{needed_key(folder).public}  {key_path(folder)}")


@key.command()
@_run
@_file
@plain_errors
def copy(run: str, file: Path) -> None:
    """Copy the key to FILE, as on a stick that is kept off-line. An existing file is never overwritten."""
    from coordinator.recovery.key_copies import copy_key

    click.echo(f"the key {copy_key(run_folder(run), file)[:8]} is copied to {file}: keep it off-line")


@key.command()
@_run
@_file
@plain_errors
def check(run: str, file: Path) -> None:
    """Check that FILE is a copy of the key of RUN, by its journal or archive where the key is lost."""
    from coordinator.recovery.key_copies import check_key

    click.echo(f"{file} is the key {check_key(run_folder(run), file)[:8]} of the run")


@key.command()
@_run
@_file
@plain_errors
def put(run: str, file: Path) -> None:
    """Put the key in FILE back into the folder of RUN, after a check."""
    from coordinator.recovery.key_copies import put_key

    click.echo(f"the key {put_key(run_folder(run), file)[:8]} is back: `coordinator serve` goes on")
