"""`peer seed`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from barnraise.runtime.console import plain_errors, say
from barnraise.runtime.console_streams import outlive_display


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--host", default="0.0.0.0", show_default=True, help="Address of this machine to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=7454, show_default=True, help="0: any free one."
)
@plain_errors
def seed(folder: Path, host: str, port: int) -> None:
    """Serve FOLDER to others who download, until Ctrl-C.

    FOLDER is one that `peer download` wrote, or a copy of a run's archive. Others download from this machine
    with --mirror; they check every byte, so they need not trust it.
    """
    from barnraise.runtime.stop_signals import until_interrupted
    from peer.seed import Seeding
    from peer.seed import seed as serve

    def ready(seeding: Seeding) -> None:
        say(f"serving {seeding.content} on port {seeding.port}")
        say(f"    peer download … --mirror http://ADDRESS_OF_THIS_MACHINE:{seeding.port}")

    async def run() -> None:
        await serve(folder, host, port, until_interrupted(), ready)

    outlive_display()
    asyncio.run(run())
