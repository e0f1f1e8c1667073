"""The options of addresses, checked before anything else is done."""

from __future__ import annotations

from collections.abc import Sequence

from barnraise.contract.endpoints import (
    MAX_HOSTS,
    ip_address,
    is_this_machine,
    parse_web_address,
    public_host,
)
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
    try:
        parse_web_address(url)
    except ValueError as error:
        raise UserError(
            f"{url[:100]!r} is not the address of a web server: {error}",
            fix=f"Give {option} as in https://models.example.org.",
        ) from None


def check_tls(host: str, public_hosts: Sequence[str], *, tls: bool) -> None:
    """Raises UserError where others than this machine would reach a service without TLS."""
    outside = [name for name in (host, *public_hosts) if not is_this_machine(name)]
    if not tls and outside:
        raise UserError(
            f"--no-tls is for this machine alone, and {outside[0]} is reached by others",
            fix="Leave --no-tls out, or give --host 127.0.0.1.",
        )
