"""The `peer` command line."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from barnraise import __version__
from barnraise.contract.invite import parse_invite
from barnraise.core.errors import UserError
from barnraise.network.blobs.token_bucket import parse_rate
from barnraise.runtime.allocator import keep_freed_memory
from barnraise.runtime.console import plain_errors, start_logging
from peer.cli.chat import chat
from peer.cli.evaluate import evaluate, key
from peer.cli.options import (
    base_option,
    cache_option,
    device_option,
    key_option,
    revision_option,
    source_argument,
    threads_option,
)
from peer.data_dir import own_folder

if TYPE_CHECKING:
    from peer.download.select import Format
    from peer.training.memory_fit import FrozenPrecision


@click.group()
@click.version_option(__version__, prog_name="peer")
@click.option("--debug", is_flag=True, help="More logs, and tracebacks on errors.")
def main(debug: bool) -> None:
    """Take part in a Barnraise training run, or use its checkpoints.

    Exit status: 0 success, 1 a bug in Barnraise, 2 wrong command or file, 3 this machine,
    4 the network, 5 bytes that fail a check, 6 refused by the coordinator, 7 saved state.
    """
    start_logging(debug)
    keep_freed_memory()


@main.command()
@click.argument("invite")
@click.option("--name", default="", help="Your name in the run's status. Default: none.")
@click.option("--credit", is_flag=True, help="Allow model cards to name you. Needs --name.")
@device_option
@threads_option
@click.option(
    "--micro-batch",
    type=click.IntRange(min=1),
    help="Samples per forward pass. Default: by device and memory.",
)
@click.option(
    "--frozen",
    type=click.Choice(["auto", "fp32", "bf16", "8bit", "4bit"]),
    default="auto",
    show_default=True,
    help="Precision of the weights below an adapter. auto: the most exact one that fits into memory.",
)
@base_option
@click.option(
    "--listen", default="/ip4/0.0.0.0/tcp/0", show_default=True, help="libp2p address to listen on."
)
@click.option("--max-upload", metavar="RATE", help="Limit of the upload rate, as in 5Mbit.")
@click.option("--max-download", metavar="RATE", help="Limit of the download rate, as in 50Mbit.")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Folder of your key and your work. Default: one per run in the user's data folder.",
)
@cache_option("base models")
@plain_errors
def join(
    invite: str,
    name: str,
    credit: bool,
    device: str,
    threads: int | None,
    micro_batch: int | None,
    frozen: FrozenPrecision,
    base: Path | None,
    listen: str,
    max_upload: str | None,
    max_download: str | None,
    data_dir: Path | None,
    cache_dir: Path,
) -> None:
    """Train in the run of INVITE until Ctrl-C.

    The first Ctrl-C finishes the current step and sends what was trained; the second stops at once.
    The same command resumes your work.
    """
    wanted = parse_invite(invite)
    if credit and not name:
        raise UserError("--credit needs a name to credit", fix="Add --name, as in `--name ada --credit`.")

    from rich.console import Console

    from peer.messages.training import training_message
    from peer.messages.volunteer import volunteer_message
    from peer.volunteer.display import display_for
    from peer.volunteer.join import JoinSettings
    from peer.volunteer.join import join as join_run

    settings = JoinSettings(
        name=name[:40],
        credit=credit,
        device=device,
        threads=threads,
        micro_batch=micro_batch,
        frozen=frozen,
        listen=listen,
        max_upload=parse_rate(max_upload) if max_upload else None,
        max_download=parse_rate(max_download) if max_download else None,
        base=base,
    )
    folder = own_folder(data_dir, wanted.run)
    display = display_for(Console(stderr=True), volunteer_message)
    asyncio.run(join_run(wanted, folder, cache_dir, settings, display, training_message))


@main.command()
@source_argument
@revision_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["adapter", "model", "merged", "gguf", "base", "data"]),
    help="Default: the trained form. merged and gguf are converted here if the run has not published them.",
)
@click.option(
    "--mirror", "mirrors", multiple=True, metavar="URL", help="Another server with a copy; may be repeated."
)
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Default: RUN-round-NNNNNN.")
@key_option
@base_option
@cache_option("base models")
@plain_errors
def download(
    source: str,
    revision: str,
    form: Format | None,
    mirrors: tuple[str, ...],
    output: Path | None,
    key: str | None,
    base: Path | None,
    cache_dir: Path,
) -> None:
    """Download a checkpoint and check every byte. The same command resumes a broken download.

    SOURCE is a run's invite, or the http(s) address or local folder of its archive or of one checkpoint.
    An address can end with ?key=… as an invite does.
    """
    import time

    from rich.console import Console

    from peer.download.download import Downloaded, DownloadOptions
    from peer.download.download import download as fetch
    from peer.download.progress import download_display
    from peer.messages.download import download_message

    options = DownloadOptions(source, key, revision, form, mirrors, output, base)
    with download_display(Console(stderr=True), download_message) as display:
        done = asyncio.run(fetch(options, cache_dir, display, time.monotonic))
    if isinstance(done, Downloaded):
        click.echo(f"{done.folder}: every file matches what the run's key signed")
    else:
        click.echo(
            f"{done.folder}: converted here from a checkpoint that the run's key signed;"
            " the result is not signed"
        )


@main.command()
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
    from peer.seed import Seeding, until_interrupted
    from peer.seed import seed as serve

    def ready(seeding: Seeding) -> None:
        click.echo(f"serving {seeding.content} on port {seeding.port}")
        click.echo(f"    peer download … --mirror http://ADDRESS_OF_THIS_MACHINE:{seeding.port}")

    async def run() -> None:
        await serve(folder, host, port, until_interrupted(), ready)

    asyncio.run(run())


@main.command()
@source_argument
@revision_option
@click.option(
    "--from",
    "start",
    type=click.IntRange(min=0),
    metavar="ROUND",
    help="Start from the checkpoint of ROUND instead of the base model: the rounds before it are not proved.",
)
@click.option(
    "--log",
    metavar="ARCHIVE",
    help="The run's archive, given as SOURCE is, if SOURCE is one checkpoint.",
)
@key_option
@base_option
@cache_option("base models and downloaded files")
@plain_errors
def verify(
    source: str,
    revision: str,
    start: int | None,
    log: str | None,
    key: str | None,
    base: Path | None,
    cache_dir: Path,
) -> None:
    """Prove that a checkpoint is the result of its run's log. Exit status 5 if it is not.

    SOURCE is a run's invite, or the http(s) address or local folder of its archive or of one checkpoint.
    Every round is replayed from the base model; only the run's key is trusted.
    """
    import time

    from rich.console import Console

    from barnraise.core.errors import TrustError
    from peer.messages.verify import difference_message, proof_message, replay_rate, verify_message
    from peer.verify.display import verify_display
    from peer.verify.proof import Proved
    from peer.verify.verify import VerifyOptions
    from peer.verify.verify import verify as prove

    options = VerifyOptions(source, log, key, revision, start, base)
    with verify_display(Console(stderr=True), verify_message, replay_rate) as display:
        outcome = asyncio.run(prove(options, cache_dir, display, time.monotonic))
    if not isinstance(outcome, Proved):
        click.echo(difference_message(outcome), err=True)
        sys.exit(TrustError.exit_code)
    click.echo(proof_message(outcome))


main.add_command(key)
main.add_command(evaluate)
main.add_command(chat)
