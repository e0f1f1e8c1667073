"""The options of `coordinator serve` and `coordinator follow` about where they listen."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any, TypeVar

import click

from barnraise.network.blobs.rate_limiter import parse_rate
from coordinator.cli.options import DEFAULT_PORT

DEFAULT_P2P_PORT = 7452
DEFAULT_HTTP_PORT = 7453

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--host",
        default="0.0.0.0",
        show_default=True,
        help="IP address to listen on. 0.0.0.0: all of IPv4. '::': all of IPv6 and IPv4.",
    ),
    click.option(
        "--port",
        type=click.IntRange(0, 65_535),
        default=DEFAULT_PORT,
        show_default=True,
        help="TCP port that volunteers join at; 0: a free one.",
    ),
    click.option(
        "--p2p-port",
        type=click.IntRange(0, 65_535),
        default=DEFAULT_P2P_PORT,
        show_default=True,
        help="TCP and UDP port of the peer-to-peer network; 0: a free one.",
    ),
    click.option(
        "--http-port",
        type=click.IntRange(0, 65_535),
        default=DEFAULT_HTTP_PORT,
        show_default=True,
        help="TCP port of the HTTP server for checkpoints; 0: a free one.",
    ),
    click.option(
        "--http-url",
        metavar="URL",
        callback=lambda _context, _option, text: text.rstrip("/") if text else None,
        help="Public address of the HTTP server where a proxy is in front of it.",
    ),
    click.option(
        "--public-host",
        "public_hosts",
        multiple=True,
        metavar="HOST",
        help="Name or address at which volunteers reach this machine; may be repeated."
        " Default: that of its default route.",
    ),
    click.option(
        "--public-port",
        type=click.IntRange(1, 65_535),
        help="--port as volunteers see it behind a router or Docker.",
    ),
    click.option(
        "--public-p2p-port",
        type=click.IntRange(1, 65_535),
        help="--p2p-port as volunteers see it, TCP and UDP.",
    ),
    click.option(
        "--public-http-port", type=click.IntRange(1, 65_535), help="--http-port as volunteers see it."
    ),
    click.option(
        "--no-tls",
        "tls",
        is_flag=True,
        flag_value=False,
        default=True,
        help="Serve --port without TLS, to this machine alone (--host 127.0.0.1).",
    ),
    click.option(
        "--max-upload",
        metavar="RATE",
        callback=lambda _context, _option, text: parse_rate(text) if text else None,
        help="Limit of the upload rate, as in 50Mbit.",
    ),
)


def listening_options(command: Command) -> Command:
    """Give a command the options that `ListenSettings` holds."""
    return reduce(lambda decorated, option: option(decorated), reversed(_OPTIONS), command)
