"""The keys that sign heads and admissions as the run key does: they change with the log."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from barnraise.contract.charter import Charter
from barnraise.contract.spec import RunSpec
from barnraise.contract.tip import Position, closers_named, first_position
from barnraise.core.ids import BlobHash, PublicKey, Round


class ClosersInForce(Collection[PublicKey]):
    """The closers at the newest place of the log that a program has reached. Changes in place.

    They are those of the open round, and those that a delegation names from the next round on. Behind a
    resume there are none until a delegation names them.
    """

    def __init__(self, position: Position) -> None:
        self._position = position

    @classmethod
    def of(cls, charter: Charter) -> ClosersInForce:
        """Those at the log's beginning."""
        return cls(first_position(charter))

    @classmethod
    def named_in(cls, spec: RunSpec, run_key: PublicKey) -> ClosersInForce:
        """Those that a spec names, before its run has a charter."""
        return cls(Position(Round(0), BlobHash(""), closers=closers_named(spec, run_key)))

    def follow(self, position: Position) -> None:
        """The log is known up to `position`."""
        self._position = position

    @property
    def position(self) -> Position:
        """The newest place that is known."""
        return self._position

    def __contains__(self, key: object) -> bool:
        return key in self._position.named

    def __iter__(self) -> Iterator[PublicKey]:
        return iter(self._position.named)

    def __len__(self) -> int:
        return len(self._position.named)
