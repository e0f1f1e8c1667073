"""Whose a client's address is, for limits."""

from __future__ import annotations

import pytest

from barnraise.contract.endpoints import client_group, parse_web_address
from barnraise.core.places import SHARED


@pytest.mark.parametrize(
    ("host", "group"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:7:1::2", "2001:db8:7::/48"),
        ("2001:db8:7:ffff::3", "2001:db8:7::/48"),
        ("fe80::1%eth0", "fe80::/48"),
        ("127.0.0.1", SHARED),
        ("127.8.0.1", SHARED),
        ("::1", SHARED),
        ("::ffff:127.0.0.1", SHARED),
        ("", SHARED),
    ],
)
def test_an_address_belongs_to_a_group(host: str, group: str) -> None:
    assert client_group(host) == group


@pytest.mark.parametrize(
    "good", ["http://a.org", "https://a.org/b/c", "http://[2001:db8::7]:7453", "http://192.0.2.7:1"]
)
def test_web_addresses(good: str) -> None:
    assert parse_web_address(good) == good


@pytest.mark.parametrize(
    "bad",
    [
        "", "a.org", "ftp://a.org", "http://", "http://a.org:99999", "http://a.org:0", "http://u:p@a.org",
        "http://a.org/?q", "http://a.org/#f", "http://a.org/\x1b[2J", "http://a.org/ b", "http://\u202ea.org",
        "http://[::1", "http://a_b.org:port", "file:///etc/passwd",
    ],
)  # fmt: skip
def test_what_is_no_web_address_is_refused(bad: str) -> None:
    """A port above 65535 in a signed head ended a volunteer with a traceback."""
    with pytest.raises(ValueError):  # noqa: PT011
        parse_web_address(bad)
