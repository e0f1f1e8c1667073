"""Invites are copied by hand: the error names each mistake."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnraise.contract.endpoints import Endpoint
from barnraise.contract.invite import Invite, InviteNode, parse_invite
from barnraise.core.errors import InviteError
from barnraise.core.ids import PublicKey, RunId

KEY = "0123456789abcdef" * 4
GOOD = f"barnraise://example.org:7000/my-run?key={KEY}"
hosts = st.one_of(
    st.from_regex(r"[a-z]([a-z0-9-]{0,19}[a-z0-9])?(\.[a-z]{2,5})?", fullmatch=True),
    st.ip_addresses().map(str),
)
endpoints = st.builds(Endpoint, hosts, st.integers(1, 65_535))
keys = st.from_regex(r"[0-9a-f]{64}", fullmatch=True).map(PublicKey)


@given(
    st.lists(endpoints, min_size=1, max_size=8, unique=True),
    st.from_regex(r"[a-z0-9][a-z0-9-]{0,39}", fullmatch=True),
    keys,
    st.lists(st.builds(InviteNode, keys, endpoints), max_size=8, unique=True),
)
def test_an_invite_round_trips(hosts: list[Endpoint], run: str, key: str, nodes: list[InviteNode]) -> None:
    invite = Invite(tuple(hosts), RunId(run), PublicKey(key), tuple(nodes))
    assert parse_invite(str(invite)) == invite
    assert parse_invite(f"  {invite}\n") == invite


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "does not begin with barnraise://"),
        (GOOD.replace("barnraise", "https"), "does not begin with barnraise://"),
        (GOOD.replace(":7000", ""), "no HOST:PORT"),
        (GOOD.replace("example.org", ""), "no HOST:PORT"),
        (GOOD.replace(":7000", ":0"), "no HOST:PORT"),
        (GOOD.replace("7000", "70000"), "ort"),
        (GOOD.replace("7000", "port"), "ort"),
        (GOOD.replace("example.org", "[::1"), "more than a host"),
        (GOOD.replace("example.org", "::1"), "in brackets"),
        (GOOD.replace("example.org", "[fe80::1%eth0]"), "zone"),
        (GOOD.replace("example.org", "[192.0.2.1]"), "only IPv6"),
        (GOOD.replace("example.org", "192.0.2"), "not an IPv4 address"),
        (GOOD.replace("example.org", "user@example.org"), "neither an IP address nor a DNS name"),
        (GOOD.replace("example.org", "a.org:7000,"), "no HOST:PORT"),
        (GOOD.replace("example.org:7000", ",".join(f"h{i}:1" for i in range(9))), "9 hosts"),
        (GOOD + "&x=" + "y" * 8192, "longer than 8192"),
        (GOOD + "&node=example.org:1", "no KEY@"),
        (GOOD + f"&node={KEY}@example.org", "no HOST:PORT"),
        (GOOD + "".join(f"&node={KEY}@h{i}:1" for i in range(9)), "9 nodes"),
        (GOOD.replace("my-run", ""), "no run name"),
        (GOOD.replace("my-run", "My_Run"), "no run name"),
        (GOOD.replace("my-run", "a/b"), "no run name"),
        (GOOD.replace("my-run", "r" * 41), "no run name"),
        (GOOD[:-1], "was the end cut off?"),
        (GOOD.partition("?")[0], "was the end cut off?"),
        (GOOD + "0", "64 hex digits"),
        (GOOD.replace("abcdef", "ABCDEF"), "64 hex digits"),
        (GOOD + f"&key={KEY}", "64 hex digits"),
        (GOOD + "%0A", "64 hex digits"),
    ],
)
def test_the_error_names_the_wrong_part_of_an_invite(text: str, why: str) -> None:
    with pytest.raises(InviteError) as caught:
        parse_invite(text)
    assert why in caught.value.problem
    assert "Copy the whole line" in caught.value.fix


@given(st.text(max_size=60))
def test_random_text_raises_invite_errors(text: str) -> None:
    for candidate in (text, f"barnraise://{text}", GOOD.replace("example.org", text)):
        try:
            invite = parse_invite(candidate)
        except InviteError:
            continue
        assert parse_invite(str(invite)) == invite


def test_an_ipv6_address_is_bracketed() -> None:
    invite = parse_invite(GOOD.replace("example.org", "[2001:db8::1]"))
    assert invite.endpoints == (Endpoint("2001:db8::1", 7000),)
    assert invite.address == "[2001:db8::1]:7000"


def test_an_invite_has_each_host_once_in_its_order() -> None:
    invite = parse_invite(GOOD.replace("example.org:7000", "B.org:1,[2001:DB8:0::1]:2,b.org:1"))
    assert invite.endpoints == (Endpoint("b.org", 1), Endpoint("2001:db8::1", 2))
