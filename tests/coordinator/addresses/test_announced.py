"""Which addresses are announced: one case for each way to be reached."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from barnraise.contract.endpoints import Endpoint
from coordinator.addresses.announced import Bound, Given, announced
from coordinator.reasons.addresses import AddressDoubt, LimitedReach, OtherFamily

V4, V6, LAN = "203.0.114.7", "2a00:1450::7", "192.168.1.5"


@dataclass(frozen=True)
class Case:
    """What is bound and given, and what follows."""

    name: str
    host: str
    own: tuple[str, ...]
    endpoints: tuple[str, ...]
    p2p: tuple[str, ...]
    urls: tuple[str, ...]
    doubts: tuple[AddressDoubt, ...] = ()
    given: Given = field(default_factory=Given)


CASES = [
    Case("all of IPv4", "0.0.0.0", (V4, V6), (f"{V4}:1",), (f"/ip4/{V4}/tcp/2",), (f"http://{V4}:3",)),
    Case(
        "dual stack", "::", (V4, V6), (f"{V4}:1", f"[{V6}]:1"),
        (f"/ip4/{V4}/tcp/2", f"/ip6/{V6}/tcp/2"), (f"http://{V4}:3", f"http://[{V6}]:3"),
    ),
    Case("dual stack, no IPv4", "::", (V6,), (f"[{V6}]:1",), (f"/ip6/{V6}/tcp/2",), (f"http://[{V6}]:3",)),
    Case("one address", V6, (V4,), (f"[{V6}]:1",), (f"/ip6/{V6}/tcp/2",), (f"http://[{V6}]:3",)),
    Case(
        "no network", "::", (), ("127.0.0.1:1", "[::1]:1"), ("/ip4/127.0.0.1/tcp/2", "/ip6/::1/tcp/2"),
        ("http://127.0.0.1:3", "http://[::1]:3"),
        (LimitedReach("127.0.0.1", "this machine"), LimitedReach("::1", "this machine")),
    ),
    Case(
        "a home network", "0.0.0.0", (LAN,), (f"{LAN}:1",), (f"/ip4/{LAN}/tcp/2",), (f"http://{LAN}:3",),
        (LimitedReach(LAN, "local network"),),
    ),
    Case(
        "ports mapped by a router", "0.0.0.0", (LAN,), (f"{V4}:11",), (f"/ip4/{V4}/tcp/12",),
        (f"http://{V4}:13",), given=Given((V4,), 11, 12, 13),
    ),
    Case(
        "a name, IPv4 alone", "0.0.0.0", (), ("a.org:1",), ("/dns4/a.org/tcp/2",), ("http://a.org:3",),
        given=Given(("a.org",)),
    ),
    Case(
        "a name, dual stack, and an address", "::", (), ("a.org:1", f"{V4}:1"),
        ("/dns/a.org/tcp/2", f"/ip4/{V4}/tcp/2"), ("https://m.org",),
        given=Given(("a.org", V4, "a.org"), http_url="https://m.org"),
    ),
    Case(
        "IPv6 given, IPv4 bound", "0.0.0.0", (), (f"[{V6}]:1",), (f"/ip6/{V6}/tcp/2",), (f"http://[{V6}]:3",),
        (OtherFamily(V6, 6, "0.0.0.0"),), Given((V6,)),
    ),
    Case(
        "a documentation address", "0.0.0.0", (), ("192.0.2.1:1",), ("/ip4/192.0.2.1/tcp/2",),
        ("http://192.0.2.1:3",), (LimitedReach("192.0.2.1", "no one"),), Given(("192.0.2.1",)),
    ),
    Case(
        "localhost", "0.0.0.0", (), ("localhost:1",), ("/dns4/localhost/tcp/2",), ("http://localhost:3",),
        (LimitedReach("localhost", "this machine"),), Given(("localhost",)),
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_announced_follows_from_what_is_bound_and_given(case: Case) -> None:
    found = announced(Bound(case.host, 1, 2, 3), case.given, case.own)
    assert tuple(map(str, found.endpoints)) == case.endpoints
    assert (found.p2p, found.urls, found.doubts) == (case.p2p, case.urls, case.doubts)


def test_libp2p_listens_on_both_ip_versions_where_the_others_do() -> None:
    assert Bound("::", 1, 2, 3).listens == ("/ip4/0.0.0.0/tcp/2", "/ip6/::/tcp/2")
    assert Bound("0.0.0.0", 1, 2, 3).listens == ("/ip4/0.0.0.0/tcp/2",)


def test_an_endpoint_brackets_ipv6() -> None:
    assert str(Endpoint(V6, 1)) == f"[{V6}]:1"
