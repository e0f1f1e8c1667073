"""`peer audit`."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import click

from barnraise.contract.invite import parse_invite
from barnraise.runtime.clock_steps import ClockSet
from barnraise.runtime.console import plain_errors
from barnraise.runtime.console_streams import outlive_display
from barnraise.runtime.pauses import Paused
from peer.cli.key import data_dir_option
from peer.cli.listen_option import check_listens, listen_option
from peer.cli.options import (
    base_option,
    cache_option,
    max_download_option,
    max_upload_option,
)
from peer.data_dir import own_folder

log = logging.getLogger("peer")

if TYPE_CHECKING:
    from peer.auditing.events import AuditEvent


@click.command()
@click.argument("invite")
@click.option(
    "--threads", type=click.IntRange(min=1), help="CPU threads to compute with. Default: half of the cores."
)
@base_option
@listen_option
@max_upload_option
@max_download_option
@data_dir_option
@cache_option("base models")
@plain_errors
def audit(
    invite: str,
    threads: int | None,
    base: Path | None,
    listen: tuple[str, ...],
    max_upload: int | None,
    max_download: int | None,
    data_dir: Path | None,
    cache_dir: Path,
) -> None:
    """Audit contributions to the run of INVITE until Ctrl-C, without training.

    Tries contributions of closed rounds on samples that the coordinator names, by forward passes at low
    priority, and reports what they change. The run's maintainer has to vouch for your key: `coordinator
    vouch`. `peer join --audit` does the same in parallel with training.
    """
    wanted = parse_invite(invite)
    check_listens(listen)
    log.info("joining %s at %s", wanted.run, wanted.address)  # the imports take seconds

    from barnraise.runtime.plain_console import PlainConsole
    from peer.audit import AuditSettings
    from peer.audit import audit as audit_run
    from peer.download.progress import download_display
    from peer.messages.archive import archive_message
    from peer.messages.audit import audit_message
    from peer.messages.volunteer import volunteer_message
    from peer.volunteer.node import NetworkSettings

    def notify(event: AuditEvent | Paused | ClockSet) -> None:
        notice = volunteer_message(event) if isinstance(event, Paused | ClockSet) else audit_message(event)
        log.info("%s", notice)

    network = NetworkSettings(listen=listen, max_upload=max_upload, max_download=max_download)
    outlive_display()
    folder = own_folder(data_dir, wanted.run)
    display = download_display(PlainConsole(stderr=True), archive_message, log.info)
    asyncio.run(audit_run(wanted, folder, cache_dir, AuditSettings(network, base, threads), display, notify))
