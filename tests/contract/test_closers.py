"""What closers sign in place of the run key, and when it counts."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest

from barnraise.contract.contacts import ContactPage
from barnraise.contract.keys_in_force import KeysInForce
from barnraise.contract.log_entries import Delegation, Resume
from barnraise.contract.manifest import AveragedState, Manifest, check_interim, open_manifest
from barnraise.contract.records import check_admission, open_record, seal
from barnraise.contract.run_keys import EPOCHS_PER_KEY, Signers, Successors, name_successor
from barnraise.contract.tip import Position
from barnraise.core.errors import BadSignature, MalformedRecord
from barnraise.core.identity import Identity
from barnraise.core.ids import BlobHash, PublicKey, Round
from barnraise.core.signed import Signed, sign
from barnraise.network.address_book import AddressBook
from tests.support import parts

ADA, BEN = PublicKey(parts.ADA.public), PublicKey(parts.BEN.public)
RUN_KEY = PublicKey(parts.AUTHORITY.public)
PLACE = Position(Round(3), BlobHash(parts.HASH_A), height=3, closers=(ADA,))


def signers(*closers: PublicKey) -> Signers:
    return Signers(RUN_KEY, closers=frozenset(closers))


def test_an_admission_counts_by_the_run_key_or_a_closer() -> None:
    for by, closers in ((parts.AUTHORITY, ()), (parts.ADA, (ADA,))):
        text = parts.admission(parts.BEN, by=by)
        check_admission(text, BEN, run=parts.RUN, signers=signers(*closers), now=parts.NOW)
    text = parts.admission(parts.BEN, by=parts.ADA)
    with pytest.raises(BadSignature):
        check_admission(text, BEN, run=parts.RUN, signers=signers(BEN), now=parts.NOW)


def test_a_record_with_an_admission_by_a_closer_counts() -> None:
    commit = parts.commit(parts.BEN, admission=parts.admission(parts.BEN, by=parts.ADA))
    wire = seal(parts.BEN, commit)
    open_record(wire, run=parts.RUN, signers=KeysInForce(RUN_KEY, PLACE).signers, now=parts.NOW)
    with pytest.raises(BadSignature):
        open_record(wire, run=parts.RUN, signers=signers(), now=parts.NOW)


def test_the_closers_in_force_change_with_the_log() -> None:
    keys = KeysInForce(RUN_KEY, PLACE)
    delegated = PLACE.after(parts.amendment(Delegation, PLACE, closers=(BEN,)).entry)
    keys.follow(delegated)
    assert keys.signers.closers == {ADA, BEN}, "those of the open round, and those after it"
    keys.follow(delegated.after(parts.amendment(Resume, delegated).entry))
    assert not keys.signers.closers
    assert ADA not in keys.signers


def manifest(by: Identity, closers: tuple[PublicKey, ...]) -> Signed[Manifest]:
    return sign(by, parts.manifest(replace(PLACE, closers=closers)))


def test_a_checkpoint_of_a_closer_counts_where_it_names_the_closers_of_the_log() -> None:
    def opened(signed: Signed[Manifest], closers: tuple[PublicKey, ...] = (ADA,)) -> None:
        found = open_manifest(signed.wire, run=parts.RUN, signers=signers(*closers))
        check_interim(found, signers(*closers), PLACE)

    opened(manifest(parts.ADA, (ADA,)))
    opened(manifest(parts.AUTHORITY, (BEN,)))
    for signed, closers in ((manifest(parts.ADA, (BEN,)), (ADA,)), (manifest(parts.ADA, (ADA,)), ())):
        with pytest.raises(BadSignature):
            opened(signed, closers)


@pytest.mark.parametrize("by", [parts.ADA, parts.AUTHORITY])
def test_a_head_s_checkpoint_is_no_mean_of_states(by: Identity) -> None:
    """A follower would keep it as the state of its round, and could not start again."""
    place = replace(PLACE, round=Round(9), closers=(ADA,))
    states = tuple(AveragedState(round=round, state=parts.HASH_A) for round in (8, 9))
    mean = sign(by, parts.manifest(place).model_copy(update={"mean_of": states}))
    found = open_manifest(mean.wire, run=parts.RUN, signers=signers(ADA))
    with pytest.raises(MalformedRecord, match="from which nobody trains"):
        check_interim(found, signers(ADA), place)


def test_a_checkpoint_of_a_closer_puts_no_successor_into_the_run_key_s_place() -> None:
    named = (name_successor(parts.RUN, 1, parts.AUTHORITY, parts.BEN),)
    known, place = replace(signers(ADA), successors=named), replace(PLACE, successors=named)

    def opened(epoch: int) -> None:
        value = parts.manifest(replace(place, epoch=epoch))
        found = open_manifest(sign(parts.ADA, value).wire, run=parts.RUN, signers=known)
        check_interim(found, known, place)

    opened(EPOCHS_PER_KEY - 1)
    with pytest.raises(BadSignature):
        opened(EPOCHS_PER_KEY)


@pytest.mark.parametrize("successors", [(), (name_successor(parts.RUN, 1, parts.AUTHORITY, parts.BEN),)])
def test_a_program_without_the_charter_tries_the_addresses_of_unknown_closers(
    successors: Successors,
) -> None:
    head = parts.head(api=("198.51.100.7:7451",), successors=successors)
    sealed = base64.b64encode(seal(parts.ADA, head)).decode()
    book = AddressBook(parts.RUN, KeysInForce.alone(RUN_KEY))
    assert book.learn(ContactPage(head=sealed, contacts=()), parts.NOW) == 1
    assert book.head is None
    assert [str(one) for one in book.hints] == ["198.51.100.7:7451"]
    book = AddressBook(parts.RUN, KeysInForce.alone(RUN_KEY), knows_closers=True)
    book.learn(ContactPage(head=sealed, contacts=()), parts.NOW)
    assert book.hints == ()
    book.trust(KeysInForce(RUN_KEY, PLACE))
    assert book.learn(ContactPage(head=sealed, contacts=()), parts.NOW) == 0
    assert book.head is not None
