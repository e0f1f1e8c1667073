"""The addresses of --listen, checked before anything else is done."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence

import click

from barnraise.contract.endpoints import ip_address
from barnraise.core.errors import UserError

listen_option = click.option(
    "--listen",
    multiple=True,
    default=("/ip4/0.0.0.0/tcp/0", "/ip6/::/tcp/0"),
    show_default=True,
    metavar="MULTIADDRESS",
    help="libp2p address to listen on; may be repeated.",
)

_LISTEN = re.compile(r"/(ip[46])/([^/]+)/(?:tcp/([0-9]{1,5})|udp/([0-9]{1,5})/quic-v1)")


def check_listens(listens: Sequence[str]) -> None:
    """Raises UserError for an address that libp2p does not listen on, or that this machine does not have.

    A machine without IPv6 may have IPv6 addresses here, if it has an IPv4 one: libp2p leaves them out.
    """
    usable = [_is_here(text) for text in listens]
    if not any(usable):
        raise UserError(
            f"this machine has no address of {', '.join(listens)}",
            fix="Give --listen an address of this machine, or /ip4/0.0.0.0/tcp/0 for all of IPv4.",
        )


def _is_here(text: str) -> bool:
    found = _LISTEN.fullmatch(text)
    address = ip_address(found[2]) if found else None
    if found is None or address is None or found[1] != f"ip{address.version}" or _port(found) >= 2**16:
        raise UserError(
            f"{text[:100]!r} is not an address to listen on",
            fix="Give --listen as in /ip4/0.0.0.0/tcp/0 or /ip6/::/tcp/7452; 0 takes a free port.",
        )
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


def _port(found: re.Match[str]) -> int:
    return int(found[3] or found[4])
