"""The `coordinator` command line."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import get_args

import click
from platformdirs import user_cache_path, user_data_path

from barnraise import __version__
from barnraise.contract.invite import SCHEME, parse_invite
from barnraise.contract.manifest import Form
from barnraise.contract.spec_file import read_spec
from barnraise.core.errors import SpecError, UserError
from barnraise.core.ids import RUN_PATTERN
from barnraise.network.blobs.token_bucket import parse_rate
from barnraise.runtime.allocator import keep_freed_memory
from barnraise.runtime.console import plain_errors, start_logging
from barnraise.runtime.files import write_atomic

DEFAULT_PORT = 7451
DEFAULT_P2P_PORT = 7452
DEFAULT_HTTP_PORT = 7453

_spec_argument = click.argument("spec_path", metavar="RUN.TOML", type=click.Path(path_type=Path))
_cache_option = click.option(
    "--cache-dir",
    type=click.Path(path_type=Path),
    default=user_cache_path("barnraise"),
    show_default="the user's cache folder",
    help="Where base models are kept.",
)


@click.group()
@click.version_option(__version__, prog_name="coordinator")
@click.option("--debug", is_flag=True, help="More logs, and tracebacks on errors.")
def main(debug: bool) -> None:
    """Run a Barnraise training run that volunteers join.

    Exit status: 0 done, 1 a fault of Barnraise, 2 the command or a file, 3 this machine,
    4 the network, 5 bytes that are not what they claim, 6 refused, 7 saved state.
    """
    start_logging(debug)
    keep_freed_memory()


@main.command()
@click.argument("name")
@click.option("--output", "-o", type=click.Path(path_type=Path), default=Path("run.toml"), show_default=True)
@plain_errors
def new(name: str, output: Path) -> None:
    """Write a commented run.toml for a run called NAME."""
    from coordinator.setup.template import template

    if not re.fullmatch(RUN_PATTERN, name):
        raise SpecError(
            f"{name!r} cannot be a run's name",
            fix="Use lower-case letters, digits and hyphens, at most 40, a letter or digit first.",
        )
    if output.exists():
        raise UserError(f"{output} is there already", fix="Choose another with --output, or remove it.")
    write_atomic(output, template(name).encode())
    click.echo(f"wrote {output}: set the model and the data, then `coordinator check {output}`")


@main.command()
@_spec_argument
@_cache_option
@click.option(
    "--peers", type=click.IntRange(min=1), default=4, show_default=True, help="Volunteers to reckon with."
)
@click.option(
    "--uplink",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="Their upload speed to reckon with, in Mbit/s.",
)
@plain_errors
def check(spec_path: Path, cache_dir: Path, peers: int, uplink: float) -> None:
    """Validate RUN.TOML and tell what the run will need."""
    from coordinator.messages.check_report import check_report
    from coordinator.setup.check import check as check_run

    click.echo(check_report(check_run(read_spec(spec_path), cache_dir, peers, uplink)))


@main.command()
@_spec_argument
@_cache_option
@click.option("--host", default="0.0.0.0", show_default=True, help="Address to listen on.")
@click.option("--port", default=DEFAULT_PORT, show_default=True, help="TCP port for volunteers to join by.")
@click.option(
    "--p2p-port", default=DEFAULT_P2P_PORT, show_default=True, help="TCP and UDP port of the swarm."
)
@click.option(
    "--http-port",
    default=DEFAULT_HTTP_PORT,
    show_default=True,
    help="TCP port of checkpoints; 0: a free one.",
)
@click.option(
    "--http-url", metavar="URL", help="Public address of the HTTP port, if a proxy is in front of it."
)
@click.option(
    "--mirror",
    "mirrors",
    multiple=True,
    metavar="URL",
    help="A server with a copy, to be named to those who download; may be repeated.",
)
@click.option("--public-host", help="Name or address under which volunteers reach this machine.")
@click.option("--max-upload", metavar="RATE", help="At most this much of the uplink, as in 50Mbit.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where the run is kept.")
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
    public_host: str | None,
    max_upload: str | None,
    data_dir: Path | None,
) -> None:
    """Serve the run of RUN.TOML until Ctrl-C, and go on with it when started again."""
    from coordinator.serve import ServeSettings, Serving
    from coordinator.serve import serve as serve_run

    spec = read_spec(spec_path)
    folder = data_dir or user_data_path("barnraise") / "coordinator" / spec.name
    settings = ServeSettings(
        host=host,
        port=port,
        p2p_port=p2p_port,
        http_port=http_port,
        http_url=http_url.rstrip("/") if http_url else None,
        mirrors=tuple(mirror.rstrip("/") for mirror in mirrors),
        public_host=public_host,
        max_upload=parse_rate(max_upload) if max_upload else None,
    )

    def ready(serving: Serving) -> None:
        click.echo(f"{spec.name} is served from {serving.folder}. Volunteers join with:\n")
        click.echo(f"    peer join '{serving.invite}'\n")
        click.echo(f"Its checkpoints, and how to get them, are at {serving.url}\n")

    asyncio.run(serve_run(spec_path, folder, cache_dir, settings, ready))


@main.command()
@click.argument("address", default=f"127.0.0.1:{DEFAULT_PORT}")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@plain_errors
def status(address: str, as_json: bool) -> None:
    """Show how the run at ADDRESS (host:port, or its invite) stands."""
    from coordinator.grpc_service import ask_status
    from coordinator.status import render

    if address.startswith(SCHEME):
        address = parse_invite(address).address
    found = asyncio.run(ask_status(address))
    click.echo(found.model_dump_json(indent=2) if as_json else render(found))


@main.command()
@click.argument("source", metavar="FOLDER_OR_RUN")
@click.option(
    "--to", "to", required=True, metavar="WHERE", help="hf://OWNER/NAME, a folder, or s3://BUCKET/FOLDER."
)
@click.option("--revision", help="Only main, latest, best or a round. Default: all of them.")
@click.option(
    "--format",
    "--form",
    "forms",
    multiple=True,
    type=click.Choice(get_args(Form)),
    help="Only these forms. Default: every form for a mirror; on the Hub without data.",
)
@click.option("--prune", is_flag=True, help="Remove from a mirror what the archive no longer has.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be sent. The Hub is not even asked.")
@plain_errors
def publish(
    source: str, to: str, revision: str | None, forms: tuple[Form, ...], prune: bool, dry_run: bool
) -> None:
    """Publish a run's checkpoints and log, so that they outlive its coordinator.

    FOLDER_OR_RUN: the name of a run that was served on this machine, or the folder of its archive; the
    coordinator may run meanwhile. A folder or bucket becomes a mirror once a web server shows it. On the Hub
    each form becomes a repository, each round a tag. Every file is checked before it is sent, and what is
    there already is not sent again.
    """
    from coordinator.publishing.command import PublishOptions, find_archive
    from coordinator.publishing.command import publish as send

    options = PublishOptions(to=to, forms=forms, revision=revision, prune=prune, dry=dry_run)
    send(find_archive(source, user_data_path("barnraise") / "coordinator"), options, click.echo)
