"""Whether the libp2p daemon listens where it was asked to: it starts if one of its addresses can be bound."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import psutil

from barnraise.core.errors import MachineError

_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
_OPEN = (psutil.CONN_LISTEN, psutil.CONN_NONE)
"""The states of sockets that take what comes: of TCP, and of UDP, which has no states."""


def check_bound(process: int, listens: Sequence[str]) -> None:
    """Raises MachineError that names an address with a fixed port that the process does not listen on.

    Where the system does not say what a process has open, nothing is checked.
    """
    try:
        sockets = psutil.Process(process).net_connections("inet")
    except psutil.Error:
        return
    open_ports = {(one.family, one.type, one.laddr.port) for one in sockets if one.status in _OPEN}
    for text in listens:
        if (wanted := _socket_of(text)) is not None and wanted not in open_ports:
            raise MachineError(
                f"the libp2p daemon cannot listen on {text}: another program uses the port, or this machine"
                " has no such address",
                fix="End that program, or choose another port or address.",
            )


def _socket_of(listen: str) -> tuple[int, int, int] | None:
    """Family, type and port of /ip4/…/tcp/PORT and the like; None for a free port."""
    parts = listen.split("/")
    if len(parts) < 5 or parts[3] not in _KINDS or not parts[4].isdigit() or parts[4] == "0":
        return None
    family = socket.AF_INET6 if parts[1] == "ip6" else socket.AF_INET
    return (family, _KINDS[parts[3]], int(parts[4]))
