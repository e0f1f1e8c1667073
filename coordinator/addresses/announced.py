"""Which addresses a coordinator announces, from what is bound and what its maintainer gave. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from barnraise.contract.endpoints import MAX_HOSTS, Endpoint, ip_address, multiaddress, reach_of
from coordinator.reasons.addresses import AddressDoubt, LimitedReach, OtherFamily

LOOPBACK = {4: "127.0.0.1", 6: "::1"}


@dataclass(frozen=True)
class Bound:
    """Where the coordinator listens."""

    host: str
    """An IP address of this machine, 0.0.0.0 (all of IPv4) or :: (all of both versions)."""
    port: int
    """TCP port of the gRPC service."""
    p2p_port: int
    """TCP and UDP port of the libp2p daemon."""
    http_port: int
    """TCP port of the gateway."""

    @property
    def versions(self) -> tuple[int, ...]:
        """The IP versions that it is reached by."""
        address = ip_address(self.host)
        assert address is not None
        return (4, 6) if self.host == "::" else (address.version,)

    @property
    def listens(self) -> tuple[str, ...]:
        """The libp2p daemon's addresses. It binds an IPv6 address without IPv4, unlike gRPC and HTTP."""
        hosts = ("0.0.0.0", "::") if self.host == "::" else (self.host,)
        return tuple(multiaddress(host, self.p2p_port, self.versions) for host in hosts)


@dataclass(frozen=True)
class Given:
    """What the maintainer says that others see, where it differs from what is bound."""

    hosts: tuple[str, ...] = ()
    port: int | None = None
    p2p_port: int | None = None
    http_port: int | None = None
    http_url: str | None = None


@dataclass(frozen=True)
class Announced:
    """What others connect to."""

    endpoints: tuple[Endpoint, ...]
    """Of the gRPC service: the invite has them."""
    p2p: tuple[str, ...]
    """Multiaddresses of libp2p by TCP, without the peer; QUIC has the same ports."""
    urls: tuple[str, ...]
    """The gateway's addresses."""
    doubts: tuple[AddressDoubt, ...]

    @property
    def api(self) -> tuple[str, ...]:
        """The endpoints as text."""
        return tuple(map(str, self.endpoints))


def announced(bound: Bound, given: Given, own: tuple[str, ...]) -> Announced:
    """own: this machine's addresses towards the internet, at most one for each IP version."""
    hosts = _hosts(bound, given, own)[:MAX_HOSTS]
    http_port = given.http_port or bound.http_port
    endpoints = tuple(Endpoint(host, given.port or bound.port) for host in hosts)
    p2p_port = given.p2p_port or bound.p2p_port
    urls = tuple(f"http://{Endpoint(host, http_port)}" for host in hosts)
    return Announced(
        endpoints=endpoints,
        p2p=tuple(multiaddress(host, p2p_port, bound.versions) for host in hosts),
        urls=(given.http_url,) if given.http_url else urls,
        doubts=tuple(doubt for host in hosts for doubt in _doubts(host, bound)),
    )


def _hosts(bound: Bound, given: Given, own: tuple[str, ...]) -> tuple[str, ...]:
    """The first of: what is given; the one address that is bound; this machine's own; loopback."""
    if given.hosts:
        return tuple(dict.fromkeys(given.hosts))
    if bound.host not in ("0.0.0.0", "::"):
        return (bound.host,)
    fitting = tuple(host for host in own if _version(host) in bound.versions)
    return fitting or tuple(LOOPBACK[version] for version in bound.versions)


def _doubts(host: str, bound: Bound) -> list[AddressDoubt]:
    address = ip_address("127.0.0.1" if host == "localhost" else host)
    if address is None:
        return []
    doubts: list[AddressDoubt] = []
    if (reach := reach_of(address)) != "everyone":
        doubts.append(LimitedReach(host, reach))
    if address.version not in bound.versions:
        doubts.append(OtherFamily(host, address.version, bound.host))
    return doubts


def _version(host: str) -> int | None:
    address = ip_address(host)
    return None if address is None else address.version
