"""A wrong --listen is refused at once."""

from __future__ import annotations

import pytest

from barnraise.core.errors import UserError
from peer.cli.listen_option import check_listens


@pytest.mark.parametrize(
    "listens",
    [
        ("/ip4/0.0.0.0/tcp/0",),
        ("/ip4/127.0.0.1/udp/0/quic-v1",),
        ("/ip6/2001:db8::1/tcp/0", "/ip4/127.0.0.1/tcp/65535"),
    ],
)
def test_addresses_of_this_machine_are_accepted(listens: tuple[str, ...]) -> None:
    check_listens(listens)


@pytest.mark.parametrize(
    "listen",
    [
        "foo", "", "127.0.0.1:7452", "/ip4/127.0.0.1", "/ip4/127.0.0.1/tcp/65536", "/ip4/::1/tcp/0",
        "/ip6/fe80::1%eth0/tcp/0", "/dns4/example.org/tcp/0", "/ip4/127.0.0.1/tcp/0/ws",
        "/ip4/127.0.0.1/udp/0",
        "/ip4/192.0.2.77/tcp/0",
    ],
)  # fmt: skip
def test_other_addresses_are_refused(listen: str) -> None:
    with pytest.raises(UserError):
        check_listens((listen,))
