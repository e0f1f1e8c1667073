"""`peer join`."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import click

from barnraise.contract.invite import parse_invite
from barnraise.core.errors import UserError
from barnraise.runtime.console import plain_errors
from barnraise.runtime.console_streams import outlive_display
from peer.cli.listen_option import check_listens, listen_option
from peer.cli.options import (
    base_option,
    cache_option,
    device_option,
    max_download_option,
    max_upload_option,
    threads_option,
)
from peer.data_dir import own_folder

log = logging.getLogger("peer")

if TYPE_CHECKING:
    from peer.training.memory_fit import FrozenPrecision


@click.command()
@click.argument("invite")
@click.option(
    "--name", default="", help="Your name, for the maintainer alone unless --credit. Default: none."
)
@click.option("--credit", is_flag=True, help="Let the run's status and model cards name you. Needs --name.")
@click.option(
    "--audit",
    is_flag=True,
    help="Audit contributions for the coordinator, too, in a tenth of a core's time. The run's maintainer"
    " has to vouch for your key.",
)
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
@listen_option
@max_upload_option
@max_download_option
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
    audit: bool,
    device: str,
    threads: int | None,
    micro_batch: int | None,
    frozen: FrozenPrecision,
    base: Path | None,
    listen: tuple[str, ...],
    max_upload: int | None,
    max_download: int | None,
    data_dir: Path | None,
    cache_dir: Path,
) -> None:
    """Train in the run of INVITE until Ctrl-C, or until the run ends.

    The first Ctrl-C finishes the current step and sends what was trained; the second stops at once.
    The same command resumes your work.
    """
    wanted = parse_invite(invite)
    check_listens(listen)
    if credit and not name:
        raise UserError("--credit needs a name to credit", fix="Add --name, as in `--name ada --credit`.")

    log.info("joining %s at %s", wanted.run, wanted.address)  # the imports take seconds

    from barnraise.runtime.plain_console import PlainConsole
    from peer.download.progress import download_display
    from peer.messages.archive import archive_message
    from peer.messages.audit import audit_message
    from peer.messages.training import training_message
    from peer.messages.volunteer import parting_message, volunteer_message
    from peer.volunteer.display import display_for
    from peer.volunteer.join import join as join_run
    from peer.volunteer.join_options import JoinDisplays, JoinSettings

    settings = JoinSettings(
        name=name[:40],
        credit=credit,
        audit=audit,
        device=device,
        threads=threads,
        micro_batch=micro_batch,
        frozen=frozen,
        listen=listen,
        max_upload=max_upload,
        max_download=max_download,
        base=base,
    )
    outlive_display()
    folder = own_folder(data_dir, wanted.run)
    displays = JoinDisplays(
        display_for(PlainConsole(stderr=True), volunteer_message),
        download_display(PlainConsole(stderr=True), archive_message, log.info),
        training_message,
        lambda event: log.info("%s", audit_message(event)),
        parting_message,
    )
    asyncio.run(join_run(wanted, folder, cache_dir, settings, displays))
