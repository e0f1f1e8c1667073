"""The `coordinator` command line."""

from __future__ import annotations

import asyncio
import math
import re
from functools import partial
from pathlib import Path
from typing import Any, get_args

import click
from platformdirs import user_cache_path

from barnraise import __version__
from barnraise.contract.invite import SCHEME, parse_invite
from barnraise.contract.manifest import Form
from barnraise.contract.spec_file import read_spec
from barnraise.core.errors import SpecError, UserError
from barnraise.core.ids import RUN_PATTERN
from barnraise.network.blobs.rate_limiter import RateLimiter, parse_rate
from barnraise.runtime.allocator import keep_freed_memory
from barnraise.runtime.console import plain_errors, start_logging
from barnraise.runtime.console_streams import outlive_display
from barnraise.runtime.files import write_atomic
from barnraise.runtime.open_files import raise_open_files
from coordinator.backup.commands import backup, restore
from coordinator.follow_command import closer_key, follow
from coordinator.key_commands import key
from coordinator.run_folder import runs_folder

DEFAULT_PORT = 7451
DEFAULT_P2P_PORT = 7452
DEFAULT_HTTP_PORT = 7453


class _Finite(click.FloatRange):
    """A range without NaN and infinity, which click's range lets pass."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


_spec_argument = click.argument("spec_path", metavar="RUN.TOML", type=click.Path(path_type=Path))
_cache_option = click.option(
    "--cache-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=user_cache_path("barnraise"),
    show_default="the user's cache folder",
    help="Folder for downloaded base models.",
)


_rehearsal_option = click.option(
    "--rehearsal-memory",
    type=click.FloatRange(min=0),
    metavar="GB",
    help="Memory for trying one step, in GB. Default: what is free. 0: the first volunteer tries it.",
)


_max_download_option = click.option(
    "--max-download",
    metavar="RATE",
    callback=lambda _context, _option, text: parse_rate(text) if text else None,
    help="Limit of the download rate of the base model, as in 50Mbit.",
)


def _gigabytes(number: float | None) -> int | None:
    return None if number is None else int(number * 1e9)


@click.group()
@click.version_option(__version__, prog_name="coordinator")
@click.option("--debug", is_flag=True, help="More logs, and tracebacks on errors.")
def main(debug: bool) -> None:
    """Run a Barnraise training run that volunteers join.

    Exit status: 0 success, 1 a bug in Barnraise, 2 wrong command or file, 3 this machine,
    4 the network, 5 bytes that fail a check, 6 refused by a server, 7 saved state
    or a run that cannot be trained.
    """
    start_logging(debug)
    keep_freed_memory()
    raise_open_files()


@main.command()
@click.argument("name")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    default=Path("run.toml"),
    show_default=True,
    help="File to write. An existing file is never overwritten.",
)
@plain_errors
def new(name: str, output: Path) -> None:
    """Write a commented run.toml for a run called NAME.

    NAME: lower-case letters, digits and hyphens, at most 40, a letter or digit first.
    """
    from coordinator.setup.template import template

    if not re.fullmatch(RUN_PATTERN, name):
        raise SpecError(
            f"{name!r} cannot be a run's name",
            fix="Use lower-case letters, digits and hyphens, at most 40, a letter or digit first.",
        )
    if output.exists():
        raise UserError(f"{output} exists already", fix="Choose another file with --output, or remove it.")
    write_atomic(output, template(name).encode())
    click.echo(f"wrote {output}: set the model and the data, then `coordinator check {output}`")


@main.command()
@_spec_argument
@_cache_option
@click.option(
    "--peers", type=click.IntRange(min=1), default=4, show_default=True, help="Volunteers to plan for."
)
@click.option(
    "--uplink",
    type=_Finite(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="Their upload speed, in Mbit/s.",
)
@_rehearsal_option
@_max_download_option
@plain_errors
def check(
    spec_path: Path,
    cache_dir: Path,
    peers: int,
    uplink: float,
    rehearsal_memory: float | None,
    max_download: int | None,
) -> None:
    """Validate RUN.TOML and report what the run needs.

    Downloads the base model and tokenizes the data, as `serve` does, but starts nothing.
    """
    from barnraise.rehearsal.runner import Limits, rehearse
    from coordinator.messages.check_report import check_report
    from coordinator.setup.check import check as check_run

    rehearsing = partial(rehearse, limits=Limits(memory=_gigabytes(rehearsal_memory)))
    limiter = RateLimiter(max_download)
    click.echo(check_report(check_run(read_spec(spec_path), cache_dir, peers, uplink, rehearsing, limiter)))


@main.command()
@_spec_argument
@_cache_option
@click.option(
    "--host",
    default="0.0.0.0",
    show_default=True,
    help="IP address to listen on. 0.0.0.0: all of IPv4. '::': all of IPv6 and IPv4.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=DEFAULT_PORT,
    show_default=True,
    help="TCP port that volunteers join at; 0: a free one.",
)
@click.option(
    "--p2p-port",
    type=click.IntRange(0, 65_535),
    default=DEFAULT_P2P_PORT,
    show_default=True,
    help="TCP and UDP port of the peer-to-peer network; 0: a free one.",
)
@click.option(
    "--http-port",
    type=click.IntRange(0, 65_535),
    default=DEFAULT_HTTP_PORT,
    show_default=True,
    help="TCP port of the HTTP server for checkpoints; 0: a free one.",
)
@click.option(
    "--http-url", metavar="URL", help="Public address of the HTTP server where a proxy is in front of it."
)
@click.option(
    "--mirror",
    "mirrors",
    multiple=True,
    metavar="URL",
    help="Address of a mirror that downloads may use; may be repeated.",
)
@click.option(
    "--public-host",
    "public_hosts",
    multiple=True,
    metavar="HOST",
    help="Name or address at which volunteers reach this machine; may be repeated."
    " Default: that of its default route.",
)
@click.option(
    "--public-port",
    type=click.IntRange(1, 65_535),
    help="--port as volunteers see it behind a router or Docker.",
)
@click.option(
    "--public-p2p-port", type=click.IntRange(1, 65_535), help="--p2p-port as volunteers see it, TCP and UDP."
)
@click.option("--public-http-port", type=click.IntRange(1, 65_535), help="--http-port as volunteers see it.")
@click.option(
    "--invite-node",
    "invite_nodes",
    multiple=True,
    metavar="KEY@HOST:PORT",
    help="Another node of the swarm, by key and p2p port, that the invite names too; may be repeated. It is"
    " asked for this coordinator's newest address where the invite's is old.",
)
@click.option("--max-upload", metavar="RATE", help="Limit of the upload rate, as in 50Mbit.")
@_max_download_option
@_rehearsal_option
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
@plain_errors
def serve(
    spec_path: Path,
    cache_dir: Path,
    host: str,
    port: int,
    p2p_port: int,
    http_port: int,
    http_url: str | None,
    mirrors: tuple[str, ...],
    public_hosts: tuple[str, ...],
    public_port: int | None,
    public_p2p_port: int | None,
    public_http_port: int | None,
    invite_nodes: tuple[str, ...],
    max_upload: str | None,
    max_download: int | None,
    rehearsal_memory: float | None,
    data_dir: Path | None,
    recover_from: str | None,
    new_run: bool,
) -> None:
    """Serve the run of RUN.TOML until Ctrl-C. The same command resumes it."""
    from coordinator.messages.addresses import address_message
    from coordinator.serve import ServeSettings, Serving
    from coordinator.serve import serve as serve_run

    spec = read_spec(spec_path)
    folder = data_dir or runs_folder() / spec.name
    settings = ServeSettings(
        host=host,
        port=port,
        p2p_port=p2p_port,
        http_port=http_port,
        http_url=http_url.rstrip("/") if http_url else None,
        mirrors=tuple(mirror.rstrip("/") for mirror in mirrors),
        public_hosts=public_hosts,
        public_port=public_port,
        public_p2p_port=public_p2p_port,
        public_http_port=public_http_port,
        invite_nodes=invite_nodes,
        max_upload=parse_rate(max_upload) if max_upload else None,
        max_download=max_download,
        rehearsal_memory=_gigabytes(rehearsal_memory),
        recover_from=recover_from,
        new_run=new_run,
    )

    def ready(serving: Serving) -> None:
        click.echo(f"{spec.name} is served from {serving.folder}. Volunteers join with:\n")
        click.echo(f"    peer join '{serving.invite}'\n")
        for doubt in serving.doubts:
            click.echo(f"Note: {address_message(doubt)}.\n")
        if not serving.rehearsed:
            click.echo("It is not rehearsed: the first volunteer tries one step before it trains.\n")
        click.echo(f"Its checkpoints, and how to download them, are at {serving.url}\n")

    outlive_display()
    asyncio.run(serve_run(spec_path, folder, cache_dir, settings, ready))


main.add_command(closer_key)
main.add_command(follow)
main.add_command(backup)
main.add_command(restore)
main.add_command(key)


@main.command()
@click.argument("address", metavar="[HOST:PORT|INVITE]", default=f"127.0.0.1:{DEFAULT_PORT}")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@plain_errors
def status(address: str, as_json: bool) -> None:
    """Show the status of the run at HOST:PORT or of INVITE.

    Default: the coordinator on this machine, at 127.0.0.1:7451.
    """
    from coordinator.grpc_service import ask_first, ask_status
    from coordinator.status import render

    if address.startswith(SCHEME):
        endpoints = parse_invite(address).endpoints
        found = asyncio.run(ask_first(endpoints))
    else:
        found = asyncio.run(ask_status(address))
    click.echo(found.model_dump_json(indent=2) if as_json else render(found))


@main.command()
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
    send(find_archive(source, runs_folder()), options, click.echo)
