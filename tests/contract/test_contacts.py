"""Addresses from others are bounded, signed by an admitted owner, and numeric."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from barnraise.contract.contacts import (
    MAX_ADDRESSES,
    MAX_AHEAD_MS,
    MAX_PAGE_BYTES,
    ContactPage,
    open_contact,
    open_head,
    open_page,
    own_addresses,
)
from barnraise.contract.records import Head, tagged
from barnraise.core.errors import BadSignature, MalformedRecord, TrustError
from barnraise.core.ids import Millis, RunId
from barnraise.core.signed import Signed, sign
from tests.support import parts
from tests.support.contacts import TCP, contact, signed_head


def opened(text: str, now: int = parts.NOW, run: RunId = parts.RUN) -> object:
    return open_contact(text, run=run, signers=parts.SIGNERS, now=Millis(now)).value


def test_a_contact_of_an_admitted_volunteer_is_opened_after_its_admission_ended() -> None:
    assert opened(contact().text, now=parts.NOW + 10**9) == contact().value


@pytest.mark.parametrize(
    "address",
    [
        "", "/", "/ip4", "/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/65536", "/ip4/127.0.0.1/tcp/07",
        "/ip4/127.0.0.1/tcp/٧", "/ip4/0.0.0.0/tcp/7", "/ip4/224.0.0.1/tcp/7", "/ip6/127.0.0.1/tcp/7",
        "/ip4/::1/tcp/7", "/ip6/fe80::1%eth0/tcp/7", "/ip6/0:0:0:0:0:0:0:1/tcp/7",
        "/dns4/run.example.org/tcp/7", f"{TCP}/p2p/12D3KooWx", f"{TCP}/ws", "/ip4/127.0.0.1/udp/7",
        "/unix/tmp/x.sock/tcp/7/",
        "/ip4/127.0.0.1/tcp/7/p2p-circuit", "x" * 10_000,
    ],
)  # fmt: skip
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(ValidationError):
        contact(addresses=[address])


def test_the_number_of_addresses_is_bounded() -> None:
    for count in (0, MAX_ADDRESSES + 1):
        with pytest.raises(ValidationError):
            contact(addresses=[f"/ip4/127.0.0.1/tcp/{port + 1}" for port in range(count)])


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (contact(run="shed").text, MalformedRecord),
        (contact(at=parts.NOW + MAX_AHEAD_MS + 1).text, MalformedRecord),
        (sign(parts.BEN, contact().value).text, BadSignature),
        (contact(admission=parts.admission(parts.ADA, expires=parts.NOW - 1)).text, MalformedRecord),
        (contact(admission=parts.admission(parts.BEN)).text, MalformedRecord),
        (contact(admission=parts.admission(parts.ADA, by=parts.STRANGER)).text, BadSignature),
        ("é", MalformedRecord),
        ("A" * 5000, MalformedRecord),
        (parts.admission(parts.ADA), TrustError),
    ],
)
def test_contacts_that_do_not_belong_here_are_refused(text: str, error: type[TrustError]) -> None:
    with pytest.raises(error):
        opened(text)


def sealed(signed: Signed[Any]) -> str:
    return base64.b64encode(tagged(signed)).decode()


def opened_head(text: str) -> Head:
    return open_head(text, run=parts.RUN, signers=parts.SIGNERS, now=parts.NOW).value


def test_a_head_is_the_run_key_s() -> None:
    head = signed_head()
    assert opened_head(sealed(head)) == head.value
    with pytest.raises(BadSignature):
        opened_head(sealed(signed_head(parts.ADA)))
    with pytest.raises(MalformedRecord):
        opened_head(sealed(sign(parts.ADA, parts.presence())))


@given(st.binary(max_size=200))
def test_no_bytes_break_the_parser_of_pages(wire: bytes) -> None:
    with pytest.raises(MalformedRecord):
        open_page(wire)


def test_a_page_is_bounded() -> None:
    page = ContactPage(head=None, contacts=(contact().text,))
    wire = page.model_dump_json().encode()
    assert open_page(wire) == page
    with pytest.raises(MalformedRecord):
        open_page(wire + b" " * MAX_PAGE_BYTES)
    with pytest.raises(MalformedRecord):
        open_page(wire.replace(b'"version":1', b'"version":2'))


def test_a_node_s_own_addresses_are_listed_by_their_reach() -> None:
    found = [
        "/ip4/127.0.0.1/tcp/7/p2p/12D3KooWx",
        "/ip4/192.168.1.2/udp/7/quic-v1/p2p/12D3KooWx",
        "/ip4/11.7.0.1/tcp/7/p2p/x/p2p-circuit/p2p/12D3KooWx",
        "/ip4/11.7.0.2/tcp/7/p2p/12D3KooWx",
        "/ip4/127.0.0.1/tcp/7/p2p/12D3KooWx",
        "/ip4/203.0.113.1/tcp/7",
        "/dns4/run.example.org/tcp/7",
    ]
    assert own_addresses(found) == (
        "/ip4/11.7.0.2/tcp/7",
        "/ip4/192.168.1.2/udp/7/quic-v1",
        "/ip4/127.0.0.1/tcp/7",
    )
