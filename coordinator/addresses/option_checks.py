"""The options of addresses, checked before anything else is done."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from barnraise.contract.endpoints import MAX_HOSTS, ip_address, public_host
from barnraise.contract.invite import MAX_NODES, parse_node
from barnraise.core.errors import UserError


def check_options(
    host: str,
    public_hosts: Sequence[str],
    invite_nodes: Sequence[str],
    http_url: str | None,
    mirrors: Sequence[str],
) -> None:
    """As `coordinator.serve.ServeSettings` has them. Raises UserError."""
    _check_host(host)
    for name in public_hosts:
        public_host(name, "--public-host")
    if len(public_hosts) > MAX_HOSTS:
        raise UserError(
            f"{len(public_hosts)} hosts are too many", fix=f"Give at most {MAX_HOSTS} --public-host."
        )
    for node in invite_nodes:
        _check_node(node)
    if len(invite_nodes) > MAX_NODES:
        raise UserError(
            f"{len(invite_nodes)} nodes are too many", fix=f"Give at most {MAX_NODES} --invite-node."
        )
    if http_url is not None:
        _check_url(http_url, "--http-url")
    for mirror in mirrors:
        _check_url(mirror, "--mirror")


def _check_host(host: str) -> None:
    if ip_address(host) is None:
        raise UserError(
            f"cannot listen on {host!r}: it is not an IP address",
            fix="Give --host an address of this machine, or 0.0.0.0 for all; names belong in --public-host.",
        )


def _check_node(text: str) -> None:
    try:
        parse_node(text)
    except ValueError as error:
        raise UserError(
            f"{text[:100]!r} is not a node: {error}",
            fix="Give --invite-node as KEY@HOST:PORT, with the node's key of 64 hex digits and its p2p port.",
        ) from None


def _check_url(url: str, option: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise UserError(
            f"{url!r} is not the address of a web server",
            fix=f"Give {option} as in https://models.example.org.",
        )
