"""`coordinator serve`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from barnraise.contract.spec_file import read_spec
from barnraise.network.blobs.rate_limiter import parse_rate
from barnraise.runtime.console import plain_errors
from barnraise.runtime.console_streams import outlive_display
from coordinator.cli.options import (
    DEFAULT_PORT,
    cache_option,
    gigabytes,
    max_download_option,
    rehearsal_option,
    spec_argument,
)
from coordinator.run_folder import runs_folder

DEFAULT_P2P_PORT = 7452
DEFAULT_HTTP_PORT = 7453


@click.command()
@spec_argument
@cache_option
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
        rehearsal_memory=gigabytes(rehearsal_memory),
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
