"""The certificates of servers, and whose are accepted."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from hypothesis import example, given
from hypothesis import strategies as st

from barnraise.contract.charter import Charter
from barnraise.contract.run_keys import Successors, name_successor
from barnraise.core.errors import MalformedRecord
from barnraise.core.identity import Identity
from barnraise.core.ids import RunId
from barnraise.core.signed import sign
from barnraise.network.tls.certificates import (
    MAX_CERTIFICATE_BYTES,
    authority_certificate,
    issue,
    read_shown,
)
from barnraise.network.tls.trust import Trust
from tests.support import parts

SUCCESSOR = Identity.from_seed(b"s" * 32)
NAMED = (name_successor(parts.RUN, 1, parts.AUTHORITY, SUCCESSOR),)
BY_THIEF = (name_successor(parts.RUN, 1, parts.STRANGER, SUCCESSOR),)


def shown_by(identity: Identity, successors: Successors = (), run: RunId = parts.RUN) -> bytes:
    """A server's certificate (DER)."""
    pem = issue(identity, run, successors).certificate
    return x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)


CERTIFICATE = shown_by(parts.AUTHORITY, NAMED)
VERSION_BYTE = CERTIFICATE.index(bytes.fromhex("a003020102")) + 4


def test_an_authority_s_certificate_depends_on_nothing_but_its_key() -> None:
    """Programs of all versions build the same one."""
    built = x509.load_pem_x509_certificate(authority_certificate(parts.AUTHORITY.public))
    assert built.tbs_certificate_bytes.hex() == GOLDEN


@pytest.mark.parametrize("run", ["b", "barn", "barn-", "a" * 40])
def test_a_certificate_shows_its_key_and_run(run: str) -> None:
    found = read_shown(shown_by(parts.AUTHORITY, NAMED, RunId(run)))
    assert (found.key, found.run, found.successors) == (parts.AUTHORITY.public, run, NAMED)


def test_the_longest_chain_of_successors_fits() -> None:
    keys = [Identity.from_seed(bytes([n]) * 32) for n in range(17)]
    named = tuple(
        name_successor(parts.RUN, n, before, after)
        for n, (before, after) in enumerate(pairwise(keys), start=1)
    )
    certificate = shown_by(keys[-1], named)
    assert len(certificate) < MAX_CERTIFICATE_BYTES
    assert Trust(parts.RUN, keys[0].public).admits(read_shown(certificate))


def test_a_certificate_that_another_key_signed_shows_none() -> None:
    """A key is not shown by naming it."""
    of_run, of_thief = shown_by(parts.AUTHORITY), shown_by(parts.STRANGER)
    forged = of_run[:-64] + of_thief[-64:]
    for bad in (forged, of_run[:-1], b"", b"\x30" * 100, of_run + bytes(MAX_CERTIFICATE_BYTES)):
        with pytest.raises(MalformedRecord):
            read_shown(bad)


@given(st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=4))
@example([(VERSION_BYTE, 0x17)])
def test_no_certificate_ends_the_client(changes: list[tuple[int, int]]) -> None:
    """A version of X.509 that does not exist raised an error of its own."""
    certificate = bytearray(CERTIFICATE)
    for place, value in changes:
        certificate[place % len(certificate)] = value
    with suppress(MalformedRecord):
        read_shown(bytes(certificate))


@pytest.mark.parametrize(
    ("identity", "successors", "admitted"),
    [
        (parts.AUTHORITY, (), True),
        (SUCCESSOR, NAMED, True),
        (SUCCESSOR, (), False),
        (SUCCESSOR, BY_THIEF, False),
        (parts.STRANGER, (), False),
        (parts.STRANGER, NAMED, False),
    ],
)
def test_an_old_invite_admits_the_first_key_and_those_that_it_named(
    identity: Identity, successors: Successors, admitted: bool
) -> None:
    shown = read_shown(shown_by(identity, successors))
    assert Trust(parts.RUN, parts.AUTHORITY.public).admits(shown) is admitted


def test_a_client_that_knows_of_a_rotation_refuses_the_key_before() -> None:
    keys = parts.keys()
    keys.heard(1_000_000, NAMED, parts.RUN)
    keys.follow(keys.at_work)
    trust = Trust(parts.RUN, parts.AUTHORITY.public, keys)
    assert trust.pinned == (SUCCESSOR.public,)
    assert not trust.admits(read_shown(shown_by(parts.AUTHORITY)))
    assert trust.admits(read_shown(shown_by(SUCCESSOR)))


def test_a_client_pins_the_closers_that_it_knows() -> None:
    trust = Trust(parts.RUN, parts.AUTHORITY.public, parts.keys(parts.BEN.public, parts.ADA.public))
    assert trust.pinned == (parts.AUTHORITY.public, *sorted((parts.ADA.public, parts.BEN.public)))


def test_a_newcomer_accepts_the_closers_of_the_charter() -> None:
    spec = parts.run_spec()
    closers = spec.closers.model_copy(update={"keys": (parts.ADA.public, parts.BEN.public)})
    charter = parts.charter(spec.model_copy(update={"closers": closers}), parts.state())
    newcomer = Trust(parts.RUN, parts.AUTHORITY.public)

    def admitted(signer: Identity, trust: Trust = newcomer, charter: Charter = charter) -> bool:
        return trust.admits_by_charter(parts.ADA.public, sign(signer, charter).wire)

    assert admitted(parts.AUTHORITY)
    assert not admitted(parts.STRANGER)
    assert not admitted(parts.AUTHORITY, charter=parts.charter(spec, parts.state()))
    assert not admitted(parts.AUTHORITY, Trust(RunId("shed"), parts.AUTHORITY.public))
    assert not admitted(parts.AUTHORITY, Trust(parts.RUN, parts.AUTHORITY.public, parts.keys()))
    assert not newcomer.admits_by_charter(parts.ADA.public, b"")


GOLDEN = (
    "3082010fa003020102020101300506032b6570304b3149304706035504030c4038613838653364643734303966313935"
    "666435326462326433636261356437326361363730396266316439343132316266333734383830316234306636663563"
    "3020170d3730303130313030303030305a180f39393939313233313233353935395a304b3149304706035504030c4038"
    "613838653364643734303966313935666435326462326433636261356437326361363730396266316439343132316266"
    "333734383830316234306636663563302a300506032b65700321008a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d"
    "94121bf3748801b40f6f5ca316301430120603551d130101ff040830060101ff020100"
)
