"""`coordinator publish`."""

from __future__ import annotations

from typing import get_args

import click

from barnraise.contract.manifest import Form
from barnraise.runtime.console import plain_errors, say
from coordinator.run_folder import runs_folder


@click.command()
@click.argument("source", metavar="RUN|FOLDER")
@click.option(
    "--to",
    "to",
    required=True,
    metavar="DESTINATION",
    help="hf://OWNER/NAME, a folder, or s3://BUCKET/FOLDER.",
)
@click.option(
    "--revision",
    metavar="REVISION",
    help="Only main, latest, best, a round such as 12, or the start of a manifest's hash. Default: all.",
)
@click.option(
    "--format",
    "--form",
    "forms",
    multiple=True,
    type=click.Choice(get_args(Form)),
    help="Only this form; may be repeated. Default: for a mirror all; for the Hub all but the data and a base"
    " model that is from the Hub.",
)
@click.option("--prune", is_flag=True, help="Remove from a mirror what the archive no longer has.")
@click.option("--dry-run", is_flag=True, help="Only say what would be sent. Does not contact the Hub.")
@plain_errors
def publish(
    source: str, to: str, revision: str | None, forms: tuple[Form, ...], prune: bool, dry_run: bool
) -> None:
    """Publish a run's checkpoints and log, so that they outlive its coordinator.

    RUN: the name of a run that was served on this machine without --data-dir. FOLDER: the folder of a run or
    of its archive, or a copy of an archive. The coordinator may be running.

    Behind a web server, a folder or bucket is a mirror. On the Hub each form is a repository and each round a
    tag. Every file is checked before it is sent, and files that are there already are not sent again.
    """
    from coordinator.publishing.command import PublishOptions, find_archive
    from coordinator.publishing.command import publish as send

    options = PublishOptions(to=to, forms=forms, revision=revision, prune=prune, dry=dry_run)
    send(find_archive(source, runs_folder()), options, say)
