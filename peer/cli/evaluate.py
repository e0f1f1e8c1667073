"""`peer evaluate`: for evaluators, whose keys a run's spec names."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from barnraise.contract.invite import parse_invite
from barnraise.runtime.console import plain_errors
from barnraise.runtime.console_streams import outlive_display
from peer.cli.key import data_dir_option
from peer.cli.options import announce, base_option, cache_option, max_download_option
from peer.data_dir import own_folder, own_key


@click.command()
@click.argument("invite")
@click.option("--once", is_flag=True, help="Exit after one pass. Default: repeat until Ctrl-C.")
@data_dir_option
@base_option
@max_download_option
@cache_option("base models and downloaded files")
@plain_errors
def evaluate(
    invite: str,
    once: bool,
    data_dir: Path | None,
    base: Path | None,
    max_download: int | None,
    cache_dir: Path,
) -> None:
    """Evaluate checkpoints as an evaluator of INVITE's run.

    Measures the held-out loss of checkpoints that the coordinator cannot evaluate. The run's spec names its
    evaluators by their keys, which `peer key` prints.
    """
    wanted = parse_invite(invite)
    announce(f"evaluating checkpoints of {wanted.run} at {wanted.address}")

    import time

    from barnraise.runtime.plain_console import PlainConsole
    from barnraise.runtime.stop_signals import until_interrupted
    from peer.download.progress import download_display
    from peer.evaluate import Evaluator
    from peer.messages.evaluate import evaluation_message

    async def run(evaluator: Evaluator) -> None:
        await (evaluator.once() if once else evaluator.until(until_interrupted()))

    outlive_display()
    identity = own_key(own_folder(data_dir, wanted.run))
    with download_display(PlainConsole(stderr=True), evaluation_message) as display:
        evaluator = Evaluator(
            wanted, identity, cache_dir, base, display, time.monotonic, max_download=max_download
        )
        asyncio.run(run(evaluator))
