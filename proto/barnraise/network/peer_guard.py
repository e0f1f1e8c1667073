"""What every layer of a node asks about a peer before it serves it, and where it reports floods."""

from __future__ import annotations

import logging
from collections.abc import Callable

from barnraise.core.ids import PublicKey, short
from barnraise.network.key_access import Access, KeyAccess

log = logging.getLogger("barnraise.swarm")


def _keep(peer: PublicKey) -> None:
    """Where there is no connection to close."""


class PeerGuard:
    """One node's."""

    def __init__(self, access: KeyAccess, disconnect: Callable[[PublicKey], object] = _keep) -> None:
        """disconnect: closes the connections to a peer, in the background."""
        self._access, self._disconnect = access, disconnect

    def access(self, peer: PublicKey) -> Access:
        """As `KeyAccess.of`."""
        return self._access.of(peer)

    def admit(self, peer: PublicKey) -> None:
        """As `KeyAccess.admit`."""
        self._access.admit(peer)

    def flooded(self, peer: PublicKey) -> None:
        """A peer goes on although it was refused: each further try would cost as much as an answer."""
        if self.access(peer) is not Access.RUN:
            log.debug("%s floods this node, and is disconnected", short(peer))
            self._disconnect(peer)
