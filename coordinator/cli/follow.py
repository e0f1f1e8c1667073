"""The commands of a closer: `coordinator follow`, and `coordinator closer-key`."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import click

from barnraise.contract.invite import parse_invite
from barnraise.runtime.console import plain_errors, say
from barnraise.runtime.console_streams import outlive_display
from coordinator.cli.listening_options import listening_options
from coordinator.run_folder import runs_folder


@click.command()
@click.argument("invite")
@listening_options
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the follower. Default: one per run in the user's data folder.",
)
@plain_errors
def follow(invite: str, data_dir: Path | None, **listening: Any) -> None:
    """Follow the run of INVITE, and close its rounds together with the coordinator.

    A run whose closers include this program's key continues while the coordinator is away. Each follower has
    the run's archive, serves it over HTTP, and relays for volunteers behind routers; a closer also admits
    volunteers.
    """
    from coordinator.addresses.listening import ListenSettings
    from coordinator.follow import Following
    from coordinator.follow import follow as follow_run
    from coordinator.messages.addresses import address_message

    parsed = parse_invite(invite)
    folder = data_dir or runs_folder().parent / "follower" / parsed.run

    def ready(following: Following) -> None:
        part = "closes rounds of" if following.closes else "follows"
        say(f"{following.key} {part} {parsed.run}\n")
        say(f"It is reached at {following.node}, for --invite-node of `coordinator serve`\n")
        for doubt in following.doubts:
            say(f"Note: {address_message(doubt)}.\n")
        say(f"The run's checkpoints, and how to download them, are at {following.url}\n")

    outlive_display()
    asyncio.run(follow_run(parsed, folder, ListenSettings(**listening), ready))


@click.command("closer-key")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@plain_errors
def closer_key(folder: Path) -> None:
    """Print the public key of the closer in FOLDER, for `closers.keys` of a run.toml.

    The key is made at the first call. Give the folder to `coordinator follow` with --data-dir.
    """
    from barnraise.consensus.vote_store import open_closer
    from barnraise.runtime.files import load_identity, owned_folder
    from coordinator.run_folder import CLOSER_KEY, VOTES

    if not os.path.lexists(folder / CLOSER_KEY):
        with owned_folder(folder, "follower"):
            open_closer(folder / CLOSER_KEY, folder / VOTES)
    say(load_identity(folder / CLOSER_KEY).public)  # also while `coordinator follow` runs there
