"""Where a program listens, and what others see of it: the settings that `serve` and `follow` share."""

from __future__ import annotations

from contextlib import AbstractContextManager

from typing_extensions import Self

from barnraise.contract.endpoints import ip_address, public_host
from barnraise.core.strict import Strict
from coordinator.addresses.announced import Announced, Bound, Given, announced
from coordinator.addresses.own_addresses import own_addresses
from coordinator.addresses.reserved_ports import ReservedPorts, reserve


class ListenSettings(Strict):
    """Ports and addresses of one program."""

    host: str
    """IP address to listen on; :: is IPv6 and IPv4."""
    port: int
    """TCP port of the gRPC service; 0 takes a free one."""
    http_port: int
    """TCP port of the HTTP gateway; 0 takes a free one."""
    http_url: str | None
    """Address of the gateway where it is not its own port, as behind a proxy with TLS."""
    p2p_port: int
    """TCP and UDP port of the libp2p daemon; 0 takes a free one."""
    public_hosts: tuple[str, ...]
    """Names or addresses at which volunteers reach this machine; empty: those of its default routes."""
    public_port: int | None
    """TCP port of the gRPC service as others see it, as behind a router; None: the port itself."""
    public_p2p_port: int | None
    """TCP and UDP port of the libp2p daemon as others see it; None: the port itself."""
    public_http_port: int | None
    """TCP port of the HTTP gateway as others see it; None: the port itself."""
    tls: bool
    """Whether the gRPC service uses TLS; without it only this machine may reach it."""
    max_upload: int | None
    """Limit for the upload of blobs in bytes per second; None: no limit."""

    @property
    def given(self) -> Given:
        """What the maintainer says that others see."""
        return Given(
            hosts=tuple(public_host(host, "--public-host") for host in self.public_hosts),
            port=self.public_port,
            p2p_port=self.public_p2p_port,
            http_port=self.public_http_port,
            http_url=self.http_url,
        )

    def reserved(self) -> AbstractContextManager[ReservedPorts]:
        """Its ports, held. Raises MachineError, UserError as `reserve`."""
        return reserve(str(ip_address(self.host)), self.port, self.p2p_port, self.http_port)

    def announced(self, bound: Bound) -> Announced:
        """What others connect to, from this machine's addresses."""
        return announced(bound, self.given, own_addresses())

    def on(self, bound: Bound) -> Self:
        """The same on the ports that are bound."""
        ports = {"port": bound.port, "p2p_port": bound.p2p_port, "http_port": bound.http_port}
        return self.model_copy(update=ports)

    def is_reached(self, public: Announced) -> bool:
        """Whether others reach this program, as far as it can know: it relays for those that are not.

        Behind a router without --public-host they do not.
        """
        return bool(self.public_hosts) or self.host not in ("0.0.0.0", "::") or not public.doubts
