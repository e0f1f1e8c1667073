"""`coordinator serve`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click

from barnraise.contract.schedule_spec import MAX_ROUNDS
from barnraise.contract.spec_file import read_spec
from barnraise.runtime.console import plain_errors, say
from barnraise.runtime.console_streams import outlive_display
from coordinator.cli.listening_options import listening_options
from coordinator.cli.options import (
    cache_option,
    gigabytes,
    max_download_option,
    rehearsal_option,
    spec_argument,
)
from coordinator.run_folder import runs_folder


@click.command()
@spec_argument
@cache_option
@listening_options
@click.option(
    "--mirror",
    "mirrors",
    multiple=True,
    metavar="URL",
    help="Address of a mirror that downloads may use; may be repeated.",
)
@click.option(
    "--invite-node",
    "invite_nodes",
    multiple=True,
    metavar="KEY@HOST:PORT",
    help="Another node of the swarm, by key and p2p port, that the invite names too; may be repeated. It is"
    " asked for this coordinator's newest address where the invite's is old.",
)
@max_download_option
@rehearsal_option
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the run. Default: one per run in the user's data folder.",
)
@click.option(
    "--recover-from",
    metavar="SOURCE",
    help="Continue a run whose journal is lost, old or cut short, with the longest log that others hold."
    " SOURCE: an archive's folder or URL, or the run's invite, which asks its volunteers.",
)
@click.option(
    "--new-run",
    is_flag=True,
    help="Begin a run with a new key where the folder has a key and no journal. What was there is set aside.",
)
@click.option(
    "--without-closers",
    is_flag=True,
    help="Resume a run whose closers are lost for good. Rounds that they closed without this machine are"
    " void.",
)
@click.option(
    "--decay",
    type=click.IntRange(1, MAX_ROUNDS),
    metavar="N",
    help="End the run: the learning rate falls over the N rounds after the open one, and no other follows.",
)
@plain_errors
def serve(
    spec_path: Path,
    cache_dir: Path,
    mirrors: tuple[str, ...],
    invite_nodes: tuple[str, ...],
    max_download: int | None,
    rehearsal_memory: float | None,
    data_dir: Path | None,
    recover_from: str | None,
    new_run: bool,
    without_closers: bool,
    decay: int | None,
    **listening: Any,
) -> None:
    """Serve the run of RUN.TOML until Ctrl-C. The same command resumes it.

    A run ends where train.schedule plans it, or by --decay. Then no round opens, volunteers leave, and what
    was trained is served on.
    """
    from coordinator.messages.addresses import address_message
    from coordinator.messages.invitations import entrance_message
    from coordinator.serve import ServeSettings, Serving
    from coordinator.serve import serve as serve_run

    spec = read_spec(spec_path)
    folder = data_dir or runs_folder() / spec.name
    settings = ServeSettings(
        **listening,
        mirrors=tuple(mirror.rstrip("/") for mirror in mirrors),
        invite_nodes=invite_nodes,
        max_download=max_download,
        rehearsal_memory=gigabytes(rehearsal_memory),
        recover_from=recover_from,
        new_run=new_run,
        without_closers=without_closers,
        decay=decay,
    )

    def ready(serving: Serving) -> None:
        say(f"{spec.name} is served from {serving.folder}. Volunteers join with:\n")
        say(f"    peer join '{serving.made.invite}'\n")
        say(f"{entrance_message(serving.made.entrance)} `coordinator invite` makes others.\n")
        for doubt in serving.doubts:
            say(f"Note: {address_message(doubt)}.\n")
        if not serving.rehearsed:
            say("It is not rehearsed: the first volunteer tries one step before it trains.\n")
        say(f"Its checkpoints, and how to download them, are at {serving.url}\n")

    outlive_display()
    asyncio.run(serve_run(spec_path, folder, cache_dir, settings, ready))
