"""This machine's addresses towards the internet."""

from __future__ import annotations

import socket

from barnraise.contract.endpoints import ip_address

_PROBES = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
"""Documentation addresses (RFC 5737, RFC 3849): a connected UDP socket sends nothing, it only asks the kernel
for a route."""

_LOOPBACKS = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))


def own_addresses() -> tuple[str, ...]:
    """The addresses of the default routes, at most one of each IP version; without any, those of loopback."""
    outward = tuple(address for family, probe in _PROBES if (address := _outward(family, probe)))
    return outward or tuple(address for family, address in _LOOPBACKS if _exists(family, address))


def _exists(family: int, address: str) -> bool:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def _outward(family: int, probe: str) -> str | None:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as asking:
            asking.connect((probe, 9))
            found = str(asking.getsockname()[0])
    except OSError:
        return None
    address = ip_address(found)
    return found if address is not None and not address.is_unspecified else None
