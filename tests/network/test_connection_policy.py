"""Which connections of strangers are closed."""

from __future__ import annotations

from barnraise.core.ids import PublicKey
from barnraise.network.connection_policy import MAX_PER_ADDRESS, MAX_STRANGERS, connections_to_close


def keys(count: int) -> list[PublicKey]:
    return [PublicKey(f"{number:064x}") for number in range(count)]


def test_the_longest_connected_of_one_address_are_closed() -> None:
    found = keys(MAX_PER_ADDRESS + 3)
    strangers = {key: ["/ip4/192.0.2.7/tcp/1", "/ip4/192.0.2.7/udp/1/quic-v1"] for key in reversed(found)}
    since = {key: float(place) for place, key in enumerate(found)}
    assert connections_to_close(strangers, since) == found[:3]
    assert connections_to_close({key: strangers[key] for key in found[3:]}, since) == []


def test_strangers_of_many_addresses_have_a_limit_together() -> None:
    found = keys(MAX_STRANGERS + 2)
    strangers = {key: [f"/ip4/192.0.{place}.1/tcp/1"] for place, key in enumerate(found)}
    since = {key: float(-place) for place, key in enumerate(found)}
    assert connections_to_close(strangers, since) == [found[-1], found[-2]]


def test_a_relay_s_address_is_none_of_its_users() -> None:
    found = keys(MAX_PER_ADDRESS + 3)
    strangers = {key: ["/ip4/192.0.2.7/tcp/1/p2p/relay/p2p-circuit"] for key in found}
    assert connections_to_close(strangers, dict.fromkeys(found, 0.0)) == []
