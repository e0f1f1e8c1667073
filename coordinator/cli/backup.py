"""The commands `coordinator backup` and `coordinator restore`."""

from __future__ import annotations

from pathlib import Path

import click

from barnraise.runtime.console import plain_errors, say
from barnraise.runtime.machine_clocks import wall_ms
from coordinator.run_folder import run_folder, runs_folder


@click.command()
@click.argument("run", metavar="RUN|FOLDER")
@click.argument("target", metavar="DEST", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--with-key", is_flag=True, help="Copy the run's private key too: who has the backup can then sign."
)
@plain_errors
def backup(run: str, target: Path, with_key: bool) -> None:
    """Back up a run's folder to DEST, also while it is served.

    RUN: the name of a run that is served on this machine without --data-dir. FOLDER: the folder of a run.
    DEST: an empty folder, or an older backup of the run, to which only what is new is copied.

    The backup has the journal of one moment, and what it names, each file checked by its hash. It does not
    have RUN.TOML and the base model.
    """
    from coordinator.backup.take import take_backup
    from coordinator.messages.backup import taken_lines

    taken = take_backup(run_folder(run), target, wall_ms, with_key=with_key)
    for line in taken_lines(taken):
        say(line)


@click.command()
@click.argument("source", metavar="DEST", type=click.Path(path_type=Path, file_okay=False))
@click.argument("run", metavar="RUN|FOLDER")
@click.option(
    "--key",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with the run's private key, where neither DEST nor FOLDER has it.",
)
@plain_errors
def restore(source: Path, run: str, key: Path | None) -> None:
    """Restore a run's folder from DEST, a backup that `coordinator backup` wrote.

    RUN: the name of a run, for the folder that `coordinator serve` uses without --data-dir. FOLDER: a new
    folder, or one whose journal is damaged or lost: what it has intact is kept.
    """
    from coordinator.backup.manifest import needed_manifest
    from coordinator.backup.restore import restore_backup
    from coordinator.messages.backup import restored_lines

    named = run == needed_manifest(source).run and not Path(run).is_dir()
    folder = runs_folder() / run if named else Path(run)
    for line in restored_lines(restore_backup(source, folder, key)):
        say(line)
