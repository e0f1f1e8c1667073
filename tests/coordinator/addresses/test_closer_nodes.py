"""Which nodes a head names."""

from __future__ import annotations

from barnraise.contract.keys_in_force import KeysInForce
from barnraise.network.address_book import AddressBook
from coordinator.addresses.closer_nodes import closer_nodes
from coordinator.store.run_state import MAX_NODES, OWN_NODES, CoordinatorAddresses
from tests.support import parts
from tests.support.contacts import contact

PLACES = ("/ip4/192.0.2.1/tcp/7", "/ip4/127.0.0.1/tcp/7")


def test_the_first_address_of_each_closer_is_before_the_second_of_any() -> None:
    book = AddressBook(parts.RUN, KeysInForce.alone(parts.AUTHORITY.public))
    for one in (parts.ADA, parts.BEN, parts.STRANGER):
        book.learn_contact(contact(one, addresses=PLACES))
    closers = [parts.AUTHORITY.public, parts.ADA.public, parts.BEN.public]  # no contact of the first is known
    found = closer_nodes(book, closers)
    assert [address.partition("/p2p/")[0] for address in found] == [PLACES[0]] * 2 + [PLACES[1]] * 2
    assert len(set(found)) == 4


def test_a_head_has_space_for_own_addresses_and_for_others() -> None:
    own = tuple(f"own {n}" for n in range(12))
    others = [f"other {n}" for n in range(12)]
    named = CoordinatorAddresses(own, ("api",), ("http",)).and_nodes(others)
    assert named.p2p == (*own[:OWN_NODES], *others[: MAX_NODES - OWN_NODES])
    assert (named.api, named.gateways) == (("api",), ("http",))
    assert CoordinatorAddresses(("one",)).and_nodes(["one", "two"]).p2p == ("one", "two")
