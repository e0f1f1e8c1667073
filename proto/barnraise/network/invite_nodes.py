"""The nodes that an invite names, as the network layer dials them."""

from __future__ import annotations

from collections.abc import Iterable

from barnraise.contract.endpoints import multiaddress
from barnraise.contract.invite import InviteNode
from barnraise.network.address_book import Node
from barnraise.network.nat import both_transports


def dialled(nodes: Iterable[InviteNode]) -> list[Node]:
    """Each with its addresses by both transports."""
    return [
        (node.key, both_transports(multiaddress(node.endpoint.host, node.endpoint.port))) for node in nodes
    ]
