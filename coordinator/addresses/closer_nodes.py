"""The libp2p addresses of the closers that a head names, so that each node is connected to them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, zip_longest

from barnraise.core.ids import PublicKey
from barnraise.network.address_book import AddressBook
from barnraise.network.node_addresses import naming


def closer_nodes(book: AddressBook, closers: Iterable[PublicKey]) -> tuple[str, ...]:
    """Addresses of the closers whose contacts are known: the first one of each, then the second ones, …"""
    known = book.addresses_of(sorted(closers))
    named = [[naming(key, place) for place in places] for key, places in known.items()]
    return tuple(each for each in chain.from_iterable(zip_longest(*named)) if each is not None)
