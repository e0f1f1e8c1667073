"""Multiaddresses that name a node, in hivemind's types."""

from __future__ import annotations

from hivemind.p2p import PeerID
from hivemind.utils.multiaddr import Multiaddr


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


def place_of(address: str) -> str:
    """A multiaddress without the node that it names. Raises ValueError, LookupError."""
    return str(Multiaddr(address).decapsulate(Multiaddr(f"/p2p/{peer_of(address)}")))
