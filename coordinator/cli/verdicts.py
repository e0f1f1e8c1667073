"""`coordinator verdicts`."""

from __future__ import annotations

import click

from barnraise.runtime.console import plain_errors, say


@click.command()
@click.argument("run", metavar="RUN|FOLDER")
@plain_errors
def verdicts(run: str) -> None:
    """Show what audits decided about the keys of RUN (or FOLDER), and each verdict's figures."""
    from coordinator.run_folder import ARCHIVE, run_folder
    from coordinator.verdicts import read_changes, render

    say(render(read_changes(run_folder(run) / ARCHIVE)))
