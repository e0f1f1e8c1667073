"""Holds a coordinator's ports from before its data is prepared until its servers listen on them."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from barnraise.core.errors import MachineError, UserError
from coordinator.addresses.announced import Bound

FREE_PORT_TRIES = 20
_KINDS = {"TCP": socket.SOCK_STREAM, "UDP": socket.SOCK_DGRAM}


@dataclass(frozen=True)
class WantedPort:
    """A port of one server; 0 takes a free one."""

    option: str
    port: int
    transports: tuple[str, ...]
    """TCP, UDP or both on the same number."""


@dataclass(frozen=True)
class ReservedPorts:
    """Ports that no other program can take. Made by `reserve`."""

    bound: Bound
    _held: ExitStack

    def release(self) -> None:
        """Let our servers bind them."""
        self._held.close()


@contextmanager
def reserve(host: str, port: int, p2p_port: int, http_port: int) -> Iterator[ReservedPorts]:
    """Raises MachineError that names a port which cannot be bound, UserError where two are the same."""
    wanted = (
        WantedPort("--port", port, ("TCP",)),
        WantedPort("--p2p-port", p2p_port, ("TCP", "UDP")),
        WantedPort("--http-port", http_port, ("TCP",)),
    )
    _check_different(wanted)
    with ExitStack() as held:
        free_last = sorted(wanted, key=lambda one: one.port == 0)
        found = {one: _hold(host, one, held) for one in free_last}
        yield ReservedPorts(Bound(host, *(found[one] for one in wanted)), held)


def _check_different(wanted: tuple[WantedPort, ...]) -> None:
    seen: dict[int, str] = {}
    for one in wanted:
        if one.port and (other := seen.setdefault(one.port, one.option)) != one.option:
            raise UserError(
                f"{other} and {one.option} are both {one.port}", fix="Give each server a port of its own."
            )


def _hold(host: str, wanted: WantedPort, held: ExitStack) -> int:
    """Bind the port for each transport, and return its number."""
    for attempt in range(FREE_PORT_TRIES):
        with ExitStack() as tried:
            port, transport = wanted.port, ""
            try:
                for transport in wanted.transports:
                    one = tried.enter_context(_bind(host, port, transport))
                    port = int(one.getsockname()[1])
            except OSError as error:
                if wanted.port == 0 and error.errno == errno.EADDRINUSE and attempt + 1 < FREE_PORT_TRIES:
                    continue
                raise _cannot_bind(host, wanted, port, transport, error) from None
            held.push(tried.pop_all())
            return port
    raise AssertionError("unreachable")


def _bind(host: str, port: int, transport: str) -> socket.socket:
    """A bound socket that does not listen. IPv6's :: includes IPv4."""
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, _KINDS[transport])
    try:
        if ":" in host:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host != "::"))
        try:
            bound.bind((host, port))
        except OSError as error:
            if transport == "UDP" or error.errno != errno.EADDRINUSE:
                raise
            # Connections of a coordinator that just ended still use the port. Two sockets that both have
            # this option may share it, so the first try is without.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind((host, port))
    except OSError:
        with suppress(OSError):
            bound.close()
        raise
    return bound


def _cannot_bind(
    host: str, wanted: WantedPort, port: int, transport: str, error: OSError
) -> MachineError | UserError:
    where = f"{transport} port {port} of {host}"
    match error.errno:
        case errno.EADDRINUSE:
            return MachineError(
                f"{where}, the {wanted.option}, is used by another program",
                fix=f"End that program, or choose another {wanted.option}.",
            )
        case errno.EACCES:
            return MachineError(
                f"{where}, the {wanted.option}, needs a privilege that this program lacks",
                fix=f"Choose a {wanted.option} of 1024 or more.",
            )
        case errno.EADDRNOTAVAIL | errno.EAFNOSUPPORT if ":" in host:
            return UserError(
                f"this machine has no address {host}; its IPv6 may be off",
                fix="Give --host an address of this machine, or 0.0.0.0 for all of IPv4.",
            )
        case errno.EADDRNOTAVAIL:
            return UserError(
                f"this machine has no address {host}",
                fix="Give --host an address of this machine, or 0.0.0.0 for all; the address that others see"
                " belongs in --public-host.",
            )
        case _:
            return MachineError(
                f"cannot use {where}: {error.strerror}", fix=f"Choose another {wanted.option} or --host."
            )
