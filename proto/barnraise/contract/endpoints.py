"""Hosts and ports as people write them, and who can reach an address. Pure: nothing is resolved here."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from barnraise.core.errors import UserError
from barnraise.core.places import SHARED

MAX_HOSTS = 8
"""Hosts at which one program is reached."""
MAX_HOST = 253
"""Longest DNS name (RFC 1035)."""
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_PORT = re.compile(r"[1-9][0-9]{0,4}")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Reach = Literal["everyone", "local network", "this machine", "no one"]
"""Who can connect to an address."""

_PRIVATE_NETWORKS = [
    ipaddress.ip_network(network)
    for network in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",  # provider networks, and VPNs such as Tailscale (RFC 6598)
        "fc00::/7",
    )
]


@dataclass(frozen=True)
class Endpoint:
    """A host and a TCP port; `str()` is HOST:PORT with IPv6 in brackets."""

    host: str
    """An IPv4 or IPv6 address without brackets, or a DNS name."""
    port: int

    @property
    def url_host(self) -> str:
        """The host as in a URL: IPv6 in brackets."""
        return f"[{self.host}]" if ":" in self.host else self.host

    def __str__(self) -> str:
        return f"{self.url_host}:{self.port}"


def multiaddress(host: str, port: int, versions: tuple[int, ...] = (4, 6)) -> str:
    """The libp2p address by TCP. versions: the IP versions that a DNS name is looked up for."""
    address = ip_address(host)
    if address is not None:
        return f"/ip{address.version}/{host}/tcp/{port}"
    kind = "dns" if len(versions) > 1 else f"dns{versions[0]}"
    return f"/{kind}/{host}/tcp/{port}"


def parse_host(text: str) -> str:
    """An IP address or DNS name in its usual spelling; IPv6 may be in brackets. Raises ValueError."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if (address := ip_address(bare)) is not None:
        if bare != text and address.version == 4:
            raise ValueError("only IPv6 addresses are in brackets")
        return str(address)
    if "%" in text:
        raise ValueError("an address with a zone (%) is valid on one machine only")
    if not text.isascii():
        raise ValueError("a name with other letters than a to z is written as xn--…")
    if ":" in text or "/" in text:
        raise ValueError("it is more than a host: leave out https://, ports and paths")
    if len(text) > MAX_HOST or not _NAME.fullmatch(text):
        raise ValueError("it is neither an IP address nor a DNS name")
    if re.fullmatch(r"[0-9.]+|0[xX][0-9a-fA-F]+", text):
        raise ValueError("it is not an IPv4 address")
    return text.lower()


def parse_endpoint(text: str) -> Endpoint:
    """HOST:PORT, with IPv6 in brackets. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not _PORT.fullmatch(port):
        raise ValueError("it has no HOST:PORT")
    if int(port) > 65_535:
        raise ValueError("its port is above 65535")
    if ":" in host and not host.startswith("["):
        raise ValueError("an IPv6 address is in brackets, as in [2001:db8::1]:7451")
    return Endpoint(parse_host(host), int(port))


def _host_port(text: str) -> str:
    if str(parse_endpoint(text)) != text:
        raise ValueError("it is not in its usual spelling")
    return text


def parse_web_address(text: str) -> str:
    """An http(s) address of a server or a folder on it, without an account, a query or a fragment.

    Raises ValueError.
    """
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError("it has other characters than an address has")
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https"):
        raise ValueError("it does not begin with http:// or https://")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("it has an account, a query or a fragment")
    parse_host(web_host(text))
    if parts.port == 0:  # reading a port above 65535 raises
        raise ValueError("it has no port 0")
    return text


def web_host(address: str) -> str:
    """The host of an http(s) address, IPv6 without brackets; empty where it has none."""
    return urlsplit(address).hostname or ""


WebAddress = Annotated[str, Field(max_length=300), AfterValidator(parse_web_address)]
"""An http(s) address of a server."""
HTTP_PORT = 80
"""Of an http address without a port."""
HostPort = Annotated[str, Field(max_length=MAX_HOST + 8), AfterValidator(_host_port)]
"""An `Endpoint` as text."""


def ip_address(host: str) -> Address | None:
    """None for a DNS name, and for an address with a zone."""
    try:
        return None if "%" in host else ipaddress.ip_address(host)
    except ValueError:
        return None


def client_group(host: str) -> str:
    """Whose a client's address is, for limits: an IPv4 address, or the /48 of an IPv6 address, which one
    customer of a provider may have whole. `SHARED` for this machine: a proxy may be in front.
    """
    address = ip_address(host.partition("%")[0])
    if address is None or reach_of(address) == "this machine":
        return SHARED
    if address.version == 4:
        return str(address)
    return str(address.ipv4_mapped or ipaddress.ip_network((address, 48), strict=False))


def is_this_machine(host: str) -> bool:
    """Whether a host is the machine's loopback, which nobody else can listen on."""
    address = ip_address(host)
    return host == "localhost" if address is None else reach_of(address) == "this machine"


def reach_of(address: Address) -> Reach:
    """Who can connect to an address, by the registries of IANA."""
    if address.version == 6 and (mapped := address.ipv4_mapped) is not None:
        return reach_of(mapped)
    if address.is_loopback:
        return "this machine"
    if address.is_unspecified or address.is_multicast:
        return "no one"
    if address.is_global:
        return "everyone"
    local = address.is_link_local or _in_private_network(address)
    return "local network" if local else "no one"


def _in_private_network(address: Address) -> bool:
    return any(address in network for network in _PRIVATE_NETWORKS)


def public_host(text: str, option: str) -> str:
    """The host that an option names for others. Raises UserError."""
    try:
        host = parse_host(text)
        address = ip_address(host)
        if address is not None and (address.is_unspecified or address.is_multicast):
            raise ValueError("no one can connect to it")
    except ValueError as error:
        raise UserError(
            f"{text[:100]!r} cannot be a host that volunteers connect to: {error}",
            fix=f"Give {option} a name or an address, as in run.example.org, 203.0.113.7 or 2001:db8::7.",
        ) from None
    return host
