"""Which versions of the programs fit together, and what each of them says where they do not."""

from __future__ import annotations

import json

import pytest

from barnraise.contract.protocol import (
    OWN,
    ClaimantDoesNotFit,
    CoordinatorDoesNotFit,
    Protocol,
    TooNew,
    TooOld,
    misfit,
)
from barnraise.contract.records import JoinClaim, Presence, open_claim, open_record, seal
from barnraise.core.errors import MalformedRecord
from barnraise.core.identity import Identity
from barnraise.core.ids import RunId
from tests.support import parts


def speaking(speaks: int, works_with: int, release: str = "9.9") -> Protocol:
    return Protocol(speaks=speaks, works_with=works_with, release=release)


@pytest.mark.parametrize(
    ("theirs", "found"),
    [
        (speaking(2, 2), None),
        (speaking(3, 2), None),
        (speaking(1, 1), TooOld("9.9", "1.0")),
        (speaking(4, 3), TooNew("9.9", "1.0")),
    ],
)
def test_two_programs_fit_where_each_works_with_what_the_other_speaks(
    theirs: Protocol, found: TooOld | TooNew | None
) -> None:
    assert misfit(theirs, speaking(2, 2, "1.0")) == found


NEWER = {"protocol": {"speaks": 8, "works_with": 8, "release": "8.0", "new": 1}, "at": parts.NOW}
COMPATIBLE = {"protocol": {"speaks": 8, "works_with": OWN.speaks, "release": "8.0"}, "at": parts.NOW}


def signed(identity: Identity, domain: bytes, payload: dict[str, object]) -> bytes:
    """As a program of another version signs."""
    text = json.dumps(payload, separators=(",", ":")).encode()
    return bytes.fromhex(identity.public) + identity.sign(domain + text) + text


def claim(**fields: object) -> bytes:
    known = JoinClaim(run=parts.RUN, owner=parts.ADA.public, name="ada", credit=False, at=parts.NOW)
    return signed(parts.ADA, JoinClaim.DOMAIN, json.loads(known.model_dump_json()) | fields)


def test_a_claim_of_a_program_that_fits_may_have_fields_that_are_not_known() -> None:
    assert open_claim(claim(**COMPATIBLE, device="gpu")).value.protocol.speaks == 8


@pytest.mark.parametrize("more", [{}, {"name": ["of another type"]}])
def test_a_claim_of_a_program_that_does_not_fit_says_what_to_install(more: dict[str, object]) -> None:
    with pytest.raises(ClaimantDoesNotFit) as refused:
        open_claim(claim(**NEWER, **more))
    assert refused.value.reason == TooNew("8.0", OWN.release)
    assert f"barnraise=={OWN.release}" in refused.value.fix


def test_a_claim_with_a_wrong_field_is_malformed_in_every_version() -> None:
    with pytest.raises(MalformedRecord):
        open_claim(claim(**COMPATIBLE, name=3))


def test_a_head_of_a_coordinator_that_does_not_fit_says_what_to_install() -> None:
    wire = b"H" + signed(parts.AUTHORITY, b"barnraise/Head/1\n", {**NEWER, "everything": "else"})
    with pytest.raises(CoordinatorDoesNotFit) as refused:
        open_record(wire, run=parts.RUN, signers=parts.SIGNERS, now=parts.NOW)
    assert (refused.value.reason, refused.value.at) == (TooNew("8.0", OWN.release), parts.NOW)
    assert "barnraise>=8.0" in refused.value.fix


def test_unknown_fields_of_a_heartbeat_are_ignored_and_passed_on() -> None:
    known = json.loads(parts.presence(at=parts.NOW).model_dump_json())
    wire = b"P" + signed(parts.ADA, Presence.DOMAIN, known | {"battery": 0.5})
    found = open_record(wire, run=RunId(parts.RUN), signers=parts.SIGNERS, now=parts.NOW)
    assert found.wire == wire[1:]
    assert isinstance(found.value, Presence)


def test_a_record_says_what_its_sender_speaks() -> None:
    wire = seal(parts.AUTHORITY, parts.head())
    assert b'"speaks":%d' % OWN.speaks in wire
