"""What is kept of other nodes' addresses, what is offered and what is dialled."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Iterable
from pathlib import Path

from barnraise.contract.contacts import ContactPage, open_contact
from barnraise.contract.keys_in_force import KeysInForce
from barnraise.contract.records import seal
from barnraise.contract.run_keys import Signers
from barnraise.contract.trust_spec import TrustSpec
from barnraise.core.identity import Identity
from barnraise.core.ids import Millis, PublicKey
from barnraise.network.address_book import MAX_CONTACTS, OFFERED, AddressBook
from barnraise.network.address_file import ADDRESS_FILE, AddressFile, load_book
from tests.support import parts
from tests.support.contacts import contact, signed_head

OTHER = "/ip4/127.0.0.1/tcp/8"


def empty() -> AddressBook:
    return AddressBook(parts.RUN, parts.keys())


def someone(n: int) -> Identity:
    return Identity.from_seed(n.to_bytes(32, "big"))


def first(keys: list[PublicKey], count: int) -> list[PublicKey]:
    return keys[:count]


def test_the_newest_contact_of_each_volunteer_is_kept() -> None:
    book = empty()
    book.learn_contact(contact(at=parts.NOW + 1))
    book.learn_contact(contact(addresses=[OTHER], at=parts.NOW))
    assert book.candidates(()) == [(parts.ADA.public, ("/ip4/127.0.0.1/tcp/7",))]
    book.learn_contact(contact(addresses=[OTHER], at=parts.NOW + 2))
    assert book.candidates(()) == [(parts.ADA.public, (OTHER,))]


def test_the_newest_head_is_kept() -> None:
    book = empty()
    old, new = signed_head(at=parts.NOW), signed_head(at=parts.NOW + 1)
    book.learn_head(new)
    book.learn_head(old)
    assert book.head == new
    later_epoch = signed_head(epoch=1, at=parts.NOW - 1)
    book.learn_head(later_epoch)
    assert book.head == later_epoch


def test_who_answered_is_dialled_first_and_forgotten_last() -> None:
    book = empty()
    book.learn_contact(contact(parts.ADA, at=parts.NOW - 1000))
    book.learn_contact(contact(parts.BEN, at=parts.NOW))
    assert [key for key, _ in book.candidates(())] == [parts.BEN.public, parts.ADA.public]
    book.mark_answered(parts.ADA.public)
    assert [key for key, _ in book.candidates(())] == [parts.ADA.public, parts.BEN.public]
    assert [key for key, _ in book.candidates([parts.ADA.public])] == [parts.BEN.public]
    for n in range(MAX_CONTACTS):
        book.learn_contact(contact(someone(100 + n), at=parts.NOW + n))
    keys = [key for key, _ in book.candidates(())]
    assert len(keys) == MAX_CONTACTS
    assert keys[0] == parts.ADA.public
    assert parts.BEN.public not in keys


def test_trusted_keys_are_dialled_before_others_that_answered() -> None:
    """In an open run any number of keys answer."""
    book, keys = empty(), parts.keys()
    book.trust(KeysInForce(keys.first, keys.position, TrustSpec(mode="open", vouched=(parts.ADA.public,))))
    book.learn_contact(contact(parts.ADA, at=parts.NOW - 1000))
    for n in range(MAX_CONTACTS):
        book.learn_contact(contact(someone(100 + n), at=parts.NOW + n))
        book.mark_answered(someone(100 + n).public)
    dialled = [key for key, _ in book.candidates(())]
    assert len(dialled) == MAX_CONTACTS
    assert dialled[0] == parts.ADA.public


def test_closers_are_offered_and_dialled_first() -> None:
    book = empty()
    for n in range(MAX_CONTACTS):
        book.learn_contact(contact(someone(100 + n)))
    closers = [someone(99 + MAX_CONTACTS).public, someone(103).public]
    book.trust(parts.keys(*closers))
    book.mark_answered(someone(105).public)
    assert {key for key, _ in book.candidates([])[:2]} == set(closers)
    offered = [open_of(text) for text in book.offered(ContactPage(head=None, contacts=()), first).contacts]
    assert set(closers) < set(offered)
    assert len(offered) == OFFERED


def open_of(text: str) -> PublicKey:
    signed = open_contact(text, run=parts.RUN, signers=Signers(parts.AUTHORITY.public), now=parts.NOW)
    return PublicKey(signed.signer)


def test_an_offer_is_bounded() -> None:
    book = empty()
    for n in range(OFFERED + 5):
        book.learn_contact(contact(someone(100 + n)))
    assert len(book.offered(ContactPage(head=None, contacts=()), first).contacts) == OFFERED


def test_hostile_records_are_counted_and_dropped() -> None:
    book = empty()
    page = ContactPage(head="AAAA", contacts=("AAAA", contact(run="shed").text, contact().text))
    assert book.learn(page, parts.NOW) == 3
    assert book.head is None
    assert [key for key, _ in book.candidates(())] == [parts.ADA.public]
    assert book.learn(ContactPage(head=None, contacts=(contact().text,)), parts.NOW) == 0


def test_a_machine_whose_clock_is_behind_learns_by_the_head_s_time() -> None:
    yesterday, head = Millis(parts.NOW - 86_400_000), parts.head(at=parts.NOW)
    sealed = base64.b64encode(seal(parts.AUTHORITY, head)).decode()
    assert empty().learn(ContactPage(head=sealed, contacts=(contact().text,)), yesterday) == 0
    assert empty().learn(ContactPage(head=None, contacts=(contact().text,)), yesterday) == 1


def test_a_saved_book_is_loaded(tmp_path: Path) -> None:
    book, file = empty(), tmp_path / ADDRESS_FILE
    saving = AddressFile(tmp_path, book)
    asyncio.run(saving.save())
    assert not file.exists(), "nothing was learned"
    book.learn_head(signed_head(bootstrap=(f"{OTHER}/p2p/x",)))
    book.learn_contact(contact())
    asyncio.run(saving.save())
    found = load_book(tmp_path, parts.RUN, parts.keys(), parts.NOW)
    assert (found.head, found.candidates(())) == (book.head, book.candidates(()))
    file.unlink()
    book.learn_contact(contact(at=parts.NOW + 5))
    book.learn_head(signed_head(bootstrap=(f"{OTHER}/p2p/x",), at=parts.NOW + 5))
    asyncio.run(saving.save())
    assert not file.exists(), "the addresses are the same"
    book.learn_head(signed_head(bootstrap=(f"{OTHER}/p2p/x",), api=("a.org:1",), at=parts.NOW + 6))
    asyncio.run(saving.save())
    assert file.exists()


def test_a_book_is_read_in_the_thread_that_changes_it(tmp_path: Path) -> None:
    readers = []

    class Observed(AddressBook):
        def page(self, contacts: Iterable[PublicKey] | None = None) -> ContactPage:
            readers.append(threading.current_thread())
            return super().page(contacts)

    book = Observed(parts.RUN, parts.keys())
    book.learn_contact(contact())
    asyncio.run(AddressFile(tmp_path, book).save())
    assert readers == [threading.current_thread()]


def test_a_damaged_or_another_run_s_file_is_replaced(tmp_path: Path) -> None:
    book = empty()
    book.learn_contact(contact())
    asyncio.run(AddressFile(tmp_path, book).save())
    other_key = load_book(tmp_path, parts.RUN, KeysInForce.alone(parts.BEN.public), parts.NOW)
    assert other_key.candidates(()) == []
    for damaged in (b"", b"\x00" * 100, b"{}", b"[" * 10_000):
        (tmp_path / ADDRESS_FILE).write_bytes(damaged)
        assert load_book(tmp_path, parts.RUN, parts.keys(), parts.NOW).candidates(()) == []


def test_those_that_answered_and_have_no_contact_are_forgotten() -> None:
    book = empty()
    for number in range(10 * MAX_CONTACTS):
        book.mark_answered(someone(number).public)
    assert len(book._answered) <= 2 * MAX_CONTACTS + 1
