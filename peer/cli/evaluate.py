"""`peer key` and `peer evaluate`: the commands of evaluators, whose keys a run's spec names."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import click

from barnraise.contract.invite import SCHEME, parse_invite
from barnraise.core.errors import UserError
from barnraise.core.ids import RUN_PATTERN
from barnraise.runtime.console import plain_errors, say
from barnraise.runtime.console_streams import outlive_display
from peer.cli.options import announce, base_option, cache_option, max_download_option
from peer.data_dir import PEER_KEY, own_folder

_DATA_DIR = click.option(
    "--data-dir", type=click.Path(path_type=Path), help="Folder of your key. Default: as for `peer join`."
)


@click.command()
@click.argument("run")
@_DATA_DIR
@plain_errors
def key(run: str, data_dir: Path | None) -> None:
    """Print your public key for RUN.

    Its maintainer names you as an evaluator by it. RUN is the run's name, also before the run exists, or its
    invite. Creates a key if there is none.
    """
    from barnraise.runtime.files import load_identity

    say(load_identity(own_folder(data_dir, _run_name(run)) / PEER_KEY).public)


@click.command()
@click.argument("invite")
@click.option("--once", is_flag=True, help="Exit after one pass. Default: repeat until Ctrl-C.")
@_DATA_DIR
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

    from barnraise.runtime.files import load_identity
    from barnraise.runtime.plain_console import PlainConsole
    from barnraise.runtime.stop_signals import until_interrupted
    from peer.download.progress import download_display
    from peer.evaluate import Evaluator
    from peer.messages.evaluate import evaluation_message

    async def run(evaluator: Evaluator) -> None:
        await (evaluator.once() if once else evaluator.until(until_interrupted()))

    outlive_display()
    identity = load_identity(own_folder(data_dir, wanted.run) / PEER_KEY)
    with download_display(PlainConsole(stderr=True), evaluation_message) as display:
        evaluator = Evaluator(
            wanted, identity, cache_dir, base, display, time.monotonic, max_download=max_download
        )
        asyncio.run(run(evaluator))


def _run_name(text: str) -> str:
    """The run's name in an invite, or `text` itself. Raises InviteError, UserError."""
    if text.startswith(f"{SCHEME}://"):
        return parse_invite(text).run
    if not re.fullmatch(RUN_PATTERN, text):
        raise UserError(f"{text[:60]!r} is not a run's name", fix="Give the run's name, or its invite.")
    return text
