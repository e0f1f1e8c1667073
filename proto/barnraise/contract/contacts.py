"""Where the nodes of a run are reached: volunteers' signed contacts, and pages of them that nodes exchange.

The coordinator has no contact: its signed head has its addresses. A contact is bounded, signed by its owner,
which the run has admitted, and has numeric addresses only. libp2p checks the key of the node that it reaches,
so a false address costs a dial and nothing else.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError

from barnraise.contract.endpoints import ip_address, reach_of
from barnraise.contract.field_types import MAX_EMBEDDED_BYTES, Embedded, Run, Time
from barnraise.contract.records import MAX_RECORD_BYTES, Head, check_admission, open_record
from barnraise.contract.run_keys import Signers
from barnraise.core.errors import BadSignature, MalformedRecord, RefusedError, TrustError
from barnraise.core.ids import Millis, PublicKey, RunId
from barnraise.core.signed import Signable, Signed, open_base64, open_text, signer_of
from barnraise.core.strict import Hex64, Strict

MAX_ADDRESSES = 8
"""Addresses of one node."""
MAX_PAGE_CONTACTS = 64
MAX_PAGE_BYTES = 2**18 + 2**15
"""A page with the most contacts, and a head."""
MAX_AHEAD_MS = 20 * 60 * 1000
"""A contact from further in the future is refused: it would stay the newest of its owner."""

_REACHES = ("everyone", "local network", "this machine")
"""In the order in which addresses are listed."""


def _checked(text: str) -> str:
    """Raises ValueError."""
    parts = text.split("/")
    kind, host, port = (parts[1], parts[2], parts[4]) if len(parts) > 4 else ("", "", "")
    address = ip_address(host)
    if address is None or kind != f"ip{address.version}" or address.is_unspecified or address.is_multicast:
        raise ValueError("an address that no node has")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
        raise ValueError("an address without a port")
    transports = (f"tcp/{int(port)}", f"udp/{int(port)}/quic-v1")
    if text not in [f"/{kind}/{address}/{transport}" for transport in transports]:
        raise ValueError("an address of another transport, or not in its usual spelling")
    return text


NodeAddress = Annotated[str, Field(max_length=80), AfterValidator(_checked)]
"""A libp2p multiaddress by TCP or QUIC, numeric and without the node's name."""


class Contact(Signable):
    """A volunteer's statement of where it listens."""

    DOMAIN = b"barnraise/Contact/1\n"

    run: Run
    owner: Hex64
    admission: Embedded
    addresses: Annotated[tuple[NodeAddress, ...], Field(min_length=1, max_length=MAX_ADDRESSES)]
    at: Time


class ContactPage(Strict):
    """The newest head and some contacts, as nodes exchange them and keep them on disk."""

    version: Literal[1] = 1
    head: Annotated[str, Field(max_length=2 * MAX_RECORD_BYTES)] | None
    """The sealed head in base64."""
    contacts: Annotated[tuple[Embedded, ...], Field(max_length=MAX_PAGE_CONTACTS)]
    """`Signed[Contact]` in base64."""


def own_addresses(found: Sequence[str]) -> tuple[str, ...]:
    """The addresses of a contact, of those by which a node says that it is reached: widest reach first."""
    direct = [address.partition("/p2p/")[0] for address in found if "/p2p-circuit" not in address]
    valid = dict.fromkeys(text for address in direct if (text := _valid(address)))
    reached = [text for text in valid if _reach(text) in _REACHES]
    return tuple(sorted(reached, key=lambda text: _REACHES.index(_reach(text)))[:MAX_ADDRESSES])


def _valid(text: str) -> str | None:
    try:
        return _checked(text)
    except ValueError:
        return None


def _reach(text: str) -> str:
    return reach_of(ipaddress.ip_address(text.split("/")[2]))


def open_contact(text: str, *, run: RunId, signers: Signers, now: Millis) -> Signed[Contact]:
    """Check a contact in base64. Its owner may have left: the admission has to hold when it was signed.

    signers: as in `open_record`. Raises MalformedRecord, BadSignature.
    """
    signed = open_text(Contact, text, signer=None, limit=MAX_EMBEDDED_BYTES)
    contact = signed.value
    if contact.run != run or contact.at > now + MAX_AHEAD_MS:
        raise MalformedRecord("a contact of another run, or from the future", fix="It is dropped.")
    if signed.signer != contact.owner:
        raise BadSignature(f"a contact of {contact.owner[:8]} signed by another", fix="It is dropped.")
    owner, at = PublicKey(contact.owner), Millis(contact.at)
    check_admission(contact.admission, owner, run=run, signers=signers, now=at)
    return signed


def open_head(text: str, *, run: RunId, signers: Signers, now: Millis) -> Signed[Head]:
    """Check a sealed head in base64. signers: as in `open_record`. Raises MalformedRecord, BadSignature."""
    signed = open_record(open_base64(text, "a head"), run=run, signers=signers, now=now)
    if not isinstance(signed.value, Head):
        raise MalformedRecord("a record that is not a head", fix="It is dropped.")
    return Signed(signed.value, signed.signer, signed.wire)


def unproved_head(text: str, run: RunId, signers: Signers) -> Head | None:
    """The head of a signer that is unknown, who may be a closer. Its addresses are worth a try, and no more.

    signers: those that are known. None where it is no head of the run.
    """
    try:
        signer = signer_of(open_base64(text, "a head")[1:])
        assumed = replace(signers, closers=frozenset({signer}))
        return open_head(text, run=run, signers=assumed, now=Millis(0)).value
    except (TrustError, RefusedError):
        return None


def open_page(wire: bytes, limit: int = MAX_PAGE_BYTES) -> ContactPage:
    """The page, whose records are not checked yet. Raises MalformedRecord."""
    if len(wire) > limit:
        raise MalformedRecord(f"a page of contacts of {len(wire)} bytes", fix="It is not read.")
    try:
        return ContactPage.model_validate_json(wire)
    except ValidationError:
        raise MalformedRecord("bytes that are no page of contacts", fix="They are dropped.") from None
