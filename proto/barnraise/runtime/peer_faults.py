"""What becomes of an exception that a peer's data causes: the peer is named and dropped, the program goes on.

Checks of bytes and numbers raise TrustError. What passes them and makes a later computation fail is a fault
of this program, and one peer could end it for all by that. So each place that computes with one peer's data
contains the exceptions that data can cause; those of the machine (OSError, MemoryError) and of the program's
own files (BarnraiseError) end it.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from barnraise.core.errors import MalformedRecord
from barnraise.core.ids import PublicKey, short
from barnraise.core.recent import Recent

T = TypeVar("T")

BY_DATA = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)
"""What a value that nobody expected can raise; pydantic's ValidationError is a ValueError."""
REMEMBERED = 4096


@dataclass
class PeerFaults:
    """The peers whose data this program failed on since it started. Each fault is logged once."""

    log: logging.Logger
    _dropped: Recent[PublicKey] = field(default_factory=lambda: Recent(REMEMBERED))
    _logged: Recent[tuple[str, str, PublicKey | None]] = field(default_factory=lambda: Recent(REMEMBERED))

    def __contains__(self, peer: PublicKey) -> bool:
        """Whether its records are left out."""
        return peer in self._dropped

    @contextmanager
    def contain(self, what: str, peer: PublicKey | None = None) -> Iterator[None]:
        """Go on after an exception by data in the block, and drop the peer. None: it is not known."""
        try:
            yield
        except BY_DATA as error:
            self.record(what, error, peer)

    def record(self, what: str, error: Exception, peer: PublicKey | None = None) -> None:
        """Name and drop a peer. what: what failed."""
        fault = what, type(error).__name__, peer
        if fault not in self._logged:
            whose = "a peer that is not known" if peer is None else short(peer)
            self.log.error(
                "%s failed on what %s sent, which is dropped: please report this", what, whose, exc_info=error
            )
        self._logged.add(fault)
        if peer is not None:
            self._dropped.add(peer)

    def find(self, what: str, peers: Iterable[PublicKey], probe: Callable[[PublicKey], object]) -> None:
        """Drop each of the peers whose data alone makes `probe` fail."""
        for peer in peers:
            with self.contain(what, peer):
                probe(peer)


@contextmanager
def as_malformed(what: str, log: logging.Logger) -> Iterator[None]:
    """Raise MalformedRecord in the place of an exception by data: what is waited out is tried again."""
    try:
        yield
    except BY_DATA as error:
        log.error("%s failed on what a peer sent: please report this", what, exc_info=error)
        raise MalformedRecord(
            f"{what} failed on what a peer sent: {type(error).__name__}: {error}",
            fix="It is tried again. Please report it with the log.",
        ) from error
