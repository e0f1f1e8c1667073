"""`coordinator delegate`."""

from __future__ import annotations

import re

import click

from barnraise.core.errors import UserError
from barnraise.core.ids import HASH_PATTERN
from barnraise.runtime.console import plain_errors, say
from coordinator.run_folder import JOURNAL, run_folder


@click.command()
@click.argument("run", metavar="RUN|FOLDER")
@click.option(
    "--closer",
    "closers",
    multiple=True,
    metavar="KEY",
    help="Key of a closer, which `coordinator closer-key` prints; may be repeated.",
)
@click.option("--nobody", is_flag=True, help="Let the run key close rounds alone again.")
@plain_errors
def delegate(run: str, closers: tuple[str, ...], nobody: bool) -> None:
    """Name other closers of RUN, in place of all that were named before.

    The coordinator proposes it, also where it is running; a majority of the present closers decides, and it
    takes effect with the round after. The run key stays one of the closers. Where a majority of them is lost,
    no vote is possible: `coordinator serve --recover-from` resumes the run by the run key alone first.

    RUN: the name of a run that is served on this machine without --data-dir. FOLDER: the folder of a run.
    """
    from barnraise.contract.certificates import MAX_CLOSERS
    from coordinator.rounds.delegating import request_closers

    folder = run_folder(run)
    if not (folder / JOURNAL).exists():
        raise UserError(f"{folder} has no run", fix="Give the name or the folder of a run of this machine.")
    if nobody == bool(closers):
        raise UserError("it is not said who closes", fix="Give --closer KEY once or more, or --nobody.")
    for key in closers:
        if not re.fullmatch(HASH_PATTERN, key):
            raise UserError(
                f"{key[:80]!r} is not the key of a closer", fix="Give what `coordinator closer-key` prints."
            )
    keys = tuple(sorted(set(closers)))
    if len(keys) >= MAX_CLOSERS:
        raise UserError(f"{len(keys)} closers are too many", fix=f"Give at most {MAX_CLOSERS - 1} --closer.")
    request_closers(folder, keys)
    named = f"{len(keys)} closers and the run key" if closers else "the run key alone"
    say(f"{named} will close rounds once the running coordinator has had it decided")
