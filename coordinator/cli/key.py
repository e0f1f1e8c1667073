"""The command `coordinator key`: where a run's key is, a copy of it, and whether a copy is the right one."""

from __future__ import annotations

from pathlib import Path

import click

from barnraise.runtime.console import plain_errors, say
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
    from coordinator.recovery.successor_key import named_successor

    folder = run_folder(run)
    say(f"{needed_key(folder).public}  {key_path(folder)}")
    if (successor := named_successor(folder)) is not None:
        say(f"{successor}  the log names this successor")


@key.command()
@_run
@_file
@plain_errors
def copy(run: str, file: Path) -> None:
    """Copy the key to FILE, as on a stick that is kept off-line. An existing file is never overwritten."""
    from coordinator.recovery.key_copies import copy_key

    say(f"the key {copy_key(run_folder(run), file)[:8]} is copied to {file}: keep it off-line")


@key.command()
@_run
@_file
@plain_errors
def check(run: str, file: Path) -> None:
    """Check that FILE is a copy of the key of RUN, by its journal or archive where the key is lost."""
    from coordinator.recovery.key_copies import check_key

    say(f"{file} is the key {check_key(run_folder(run), file)[:8]} of the run")


@key.command()
@_run
@_file
@plain_errors
def successor(run: str, file: Path) -> None:
    """Make a successor of the key of RUN in FILE, on a stick that is kept off-line.

    The running coordinator enters its name in the log, where it stands: nobody can name another one. When the
    key of RUN is lost or stolen, `coordinator key rotate` puts the successor in its place.
    """
    from coordinator.recovery.successor_key import make_successor

    public = make_successor(run_folder(run), file)
    say(f"the successor {public[:8]} is in {file}: keep it, and a copy of it, off-line")
    say("`coordinator serve` names it in the log; then `coordinator key show` has it")


@key.command()
@_run
@_file
@plain_errors
def rotate(run: str, file: Path) -> None:
    """Put the successor in FILE in the place of the lost or stolen key of RUN.

    `coordinator serve` then resumes the run under it: what the key before signs from there on is void.
    Volunteers follow, and invites stay valid. Without the journal of RUN, FOLDER is a new folder, and
    `coordinator serve --recover-from` continues the run from its archive.
    """
    from coordinator.recovery.successor_key import has_journal, rotate

    folder = run_folder(run)
    public = rotate(folder, file)
    say(f"{public[:8]} is the key of the run: `coordinator serve` resumes it")
    if not has_journal(folder):
        say("There is no journal: give --recover-from with the folder or address of an archive.")


@key.command()
@_run
@_file
@plain_errors
def put(run: str, file: Path) -> None:
    """Put the key in FILE back into the folder of RUN, after a check."""
    from coordinator.recovery.key_copies import put_key

    say(f"the key {put_key(run_folder(run), file)[:8]} is back: `coordinator serve` goes on")
