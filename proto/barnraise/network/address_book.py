"""What a node knows of where a run's other nodes are. Pure: what is kept, offered and dialled."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from barnraise.contract.contacts import (
    MAX_PAGE_CONTACTS,
    Contact,
    ContactPage,
    open_contact,
    open_head,
    unproved_head,
)
from barnraise.contract.endpoints import Endpoint
from barnraise.contract.head_proof import is_from_the_future
from barnraise.contract.keys_in_force import KeysInForce
from barnraise.contract.records import Head, Record, tagged
from barnraise.core.errors import MalformedRecord, RefusedError, TrustError
from barnraise.core.ids import Millis, PublicKey, RunId
from barnraise.core.signed import Signed

MAX_CONTACTS = MAX_PAGE_CONTACTS
MAX_HINTS = 16
"""Addresses that nobody vouches for and that are tried."""
OFFERED = 16
"""Contacts in a page for another node: a joiner needs one that is up."""

Node = tuple[PublicKey, Sequence[str]]
"""A node, and its addresses, which do not name it."""
Draw = Callable[[list[PublicKey], int], list[PublicKey]]
"""Picks a number of list items at random."""


@dataclass
class AddressBook:
    """The newest head of a run, and the newest contacts of up to MAX_CONTACTS volunteers."""

    run: RunId
    keys: KeysInForce
    head: Signed[Head] | None = None
    """It has the coordinator's addresses."""
    knows_closers: bool = False
    """Whether `keys` has the closers of the charter: not before the program has that."""
    hints: tuple[Endpoint, ...] = ()
    """Of gRPC services in heads of unknown signers, which may be closers: a program without the charter calls
    them, and checks the charter that they answer with."""
    changes: int = 0
    """Counts what was learned."""
    _contacts: dict[PublicKey, Signed[Contact]] = field(default_factory=dict)
    _answered: set[PublicKey] = field(default_factory=set)
    """Volunteers that answered this program: strangers with many keys do not replace them."""

    def trust(self, keys: KeysInForce) -> None:
        """Take what these keys signed. They may change."""
        self.keys, self.knows_closers = keys, True

    @property
    def closers(self) -> frozenset[PublicKey]:
        """The keys of the closers that are known."""
        return self.keys.closers

    def learn(self, page: ContactPage, now: Millis) -> int:
        """Keep what is valid and newer; return how many records are neither.

        now: the run's time; before a program has joined, its machine's, which may be behind: a head is not.
        """
        refused = 0
        if page.head is not None and not self._try(self._learner_of_heads(now), page.head):
            refused += 1
            self._take_hints(page.head)
        now = now if self.head is None else Millis(max(now, self.head.value.at))
        known = {contact.text for contact in self._contacts.values()}
        for text in page.contacts:
            if text not in known:  # a signature takes a tenth of a millisecond
                refused += not self._try(lambda text: self.learn_contact(self._opened(text, now)), text)
        return refused

    def learn_head(self, head: Signed[Head]) -> None:
        """Keep a head, which was checked, if it is newer. Raises BadSignature as `KeysInForce.heard`."""
        if self.head is None or head.value.order > self.head.value.order:
            self.keys.heard(head.value.epoch, head.value.successors, self.run)
            moved = self.head is None or _addresses(self.head.value) != _addresses(head.value)
            self.head = head
            self.changes += moved

    def learn_contact(self, contact: Signed[Contact]) -> None:
        """Keep a contact, which was checked, if it is newer than that of its owner."""
        known = self._contacts.get(contact.signer)
        if known is not None and known.value.at >= contact.value.at:
            return
        moved = known is None or known.value.addresses != contact.value.addresses
        self._contacts[contact.signer] = contact
        self.changes += moved
        if len(self._contacts) > MAX_CONTACTS:
            self._forget_one()

    def mark_answered(self, peer: PublicKey) -> None:
        """Remember that a volunteer answered this program."""
        if len(self._answered) > 2 * MAX_CONTACTS:
            self._answered &= self._contacts.keys()  # many have no contact any more
        self._answered.add(peer)

    def page(self, contacts: Iterable[PublicKey] | None = None) -> ContactPage:
        """The head, and the contacts of some or of all."""
        chosen = self._contacts if contacts is None else contacts
        return ContactPage(
            head=self._sealed_head(), contacts=tuple(self._contacts[key].text for key in chosen)
        )

    def _sealed_head(self) -> str | None:
        if self.head is None:
            return None
        head: Signed[Record] = Signed(self.head.value, self.head.signer, self.head.wire)
        return base64.b64encode(tagged(head)).decode()

    def offered(self, asked: ContactPage, draw: Draw) -> ContactPage:
        """The answer to another node's page: the head, and contacts that it did not send: those of closers,
        which may lead the run, and some of volunteers at random.
        """
        others = [
            key for key, contact in sorted(self._contacts.items()) if contact.text not in asked.contacts
        ]
        closers = [key for key in others if self._is_closer(key)][:OFFERED]
        rest = [key for key in others if key not in closers]
        return self.page([*closers, *draw(rest, min(OFFERED - len(closers), len(rest)))])

    def addresses_of(self, nodes: Iterable[PublicKey]) -> dict[PublicKey, Sequence[str]]:
        """Where those of `nodes` are whose contacts are known, widest reach first."""
        return {key: self._contacts[key].value.addresses for key in nodes if key in self._contacts}

    def candidates(self, without: Iterable[PublicKey]) -> list[Node]:
        """Other nodes to dial, with their addresses: first closers, then trusted keys, then who answered,
        then by the newest contact.
        """
        skipped = set(without)
        ranked = sorted(self._contacts.values(), key=self._rank, reverse=True)
        return [(entry.signer, entry.value.addresses) for entry in ranked if entry.signer not in skipped]

    def _rank(self, contact: Signed[Contact]) -> tuple[bool, bool, bool, int]:
        signer = contact.signer
        trusted, answered = self.keys.trusts(signer), signer in self._answered
        return self._is_closer(signer), trusted, answered, contact.value.at

    def _is_closer(self, node: PublicKey) -> bool:
        return node in self.closers

    def _forget_one(self) -> None:
        last = min(self._contacts.values(), key=self._rank)
        del self._contacts[last.signer]
        self._answered.discard(last.signer)

    def _opened(self, text: str, now: Millis) -> Signed[Contact]:
        return open_contact(text, run=self.run, signers=self.keys.signers, now=now)

    def _opened_head(self, text: str, now: Millis) -> Signed[Head]:
        return open_head(text, run=self.run, signers=self.keys.signers, now=now)

    def _learner_of_heads(self, now: Millis) -> Callable[[str], None]:
        def learn(text: str) -> None:
            head, keys = self._opened_head(text, now), self.keys
            if is_from_the_future(head.value, head.signer, keys.position, keys.first, now):
                raise MalformedRecord("a closer's head from the future", fix="It is dropped.")
            self.learn_head(head)

        return learn

    def _take_hints(self, text: str) -> None:
        if self.knows_closers:
            return
        head = unproved_head(text, self.run, self.keys.signers)
        if head is not None:
            self.hints = tuple(dict.fromkeys((*self.hints, *head.endpoints)))[:MAX_HINTS]

    @staticmethod
    def _try(learn: Callable[[str], None], text: str) -> bool:
        try:
            learn(text)
        except (TrustError, RefusedError):  # the latter: of another version
            return False
        return True


def _addresses(head: Head) -> tuple[tuple[str, ...], ...]:
    return head.bootstrap, head.api, head.gateways
