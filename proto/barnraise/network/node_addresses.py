"""Multiaddresses that name a node, in hivemind's types."""

from __future__ import annotations

from hivemind.p2p import PeerID
from hivemind.utils.multiaddr import Multiaddr

from barnraise.core.ids import PublicKey
from barnraise.network.peer_ids import peer_id_bytes


def peer_of(address: str) -> PeerID:
    """The peer that a multiaddress names."""
    return PeerID.from_base58(Multiaddr(address)["p2p"])


def names_node(address: str) -> bool:
    """Whether a text is a multiaddress that names a node and a place."""
    try:
        Multiaddr(place_of(address))
    except (ValueError, LookupError):
        return False
    return True


def naming(node: PublicKey, place: str) -> str:
    """A multiaddress that names a node, of one that names only its place."""
    return f"{place}/p2p/{PeerID(peer_id_bytes(node))}"


def place_of(address: str) -> str:
    """A multiaddress without the node that it names. Raises ValueError, LookupError."""
    return str(Multiaddr(address).decapsulate(Multiaddr(f"/p2p/{peer_of(address)}")))
