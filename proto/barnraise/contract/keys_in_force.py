"""The keys that sign for a run: they change with the log."""

from __future__ import annotations

from dataclasses import replace

from barnraise.contract.charter import Charter
from barnraise.contract.run_keys import Signers, Successors, agreed, generation_of, proved
from barnraise.contract.spec import RunSpec
from barnraise.contract.tip import Position, closers_named, first_position
from barnraise.contract.trust_spec import TrustSpec
from barnraise.core.ids import BlobHash, PublicKey, Round


class KeysInForce:
    """The keys at the newest place of the log that a program has reached. Changes in place.

    The run key is the charter's until a successor of it resumes the run. The closers are those of the open
    round, and those that a delegation names from the next round on. Behind a resume there are none until a
    delegation names them.
    """

    def __init__(self, first: PublicKey, position: Position, trust: TrustSpec | None = None) -> None:
        """first: the charter's run key. trust: of the run's spec, where that is known."""
        self.first, self._position, self._announced = first, position, position.epoch
        self._trust = trust
        self._generation = generation_of(position.epoch)

    @classmethod
    def of(cls, charter: Charter) -> KeysInForce:
        """Those at the log's beginning."""
        return cls(charter.authority_key, first_position(charter), charter.spec.trust)

    @classmethod
    def alone(cls, run_key: PublicKey) -> KeysInForce:
        """Where nothing but the run key is known, as from an invite."""
        return cls(run_key, Position(Round(0), BlobHash("")))

    @classmethod
    def named_in(cls, spec: RunSpec, run_key: PublicKey) -> KeysInForce:
        """Those that a spec names, before its run has a charter."""
        position = Position(Round(0), BlobHash(""), closers=closers_named(spec, run_key))
        return cls(run_key, position, spec.trust)

    def since_the_start(self) -> KeysInForce:
        """With all run keys up to the newest one that is known: what they admitted was right then."""
        return KeysInForce(self.first, replace(self._position, epoch=0), self._trust)

    def follow(self, position: Position) -> None:
        """The log is known up to `position`.

        Raises BadSignature where it names another successor than what was known here: that one stands, also
        where a resume by the key before it made its entry void.
        """
        known = agreed(self._position.successors, position.successors)
        self._position = replace(position, successors=known)
        # A checkpoint may be older than the resume of a successor: the key before it stays void.
        self._generation = max(self._generation, generation_of(position.epoch))
        self._announced = max(self._announced, position.epoch)

    def heard(self, epoch: int, successors: Successors, run: str) -> None:
        """A head that counts is of this epoch, and brings these successors along.

        Raises BadSignature where they are not proved, and as `follow`.
        """
        known = proved(successors, run, self.first, self._position.successors)
        self._position = replace(self._position, successors=known)
        self._announced = max(self._announced, epoch)

    @property
    def position(self) -> Position:
        """The newest place that is known, with all successors that are."""
        return self._position

    @property
    def signers(self) -> Signers:
        """All keys that count now."""
        here = self._position
        banned = here.standings.banned
        return Signers(self.first, here.successors, self._generation, frozenset(here.named), banned)

    def bans(self, key: PublicKey) -> bool:
        """Whether the log bans a volunteer, as far as it is known."""
        return self._position.standings.bans(key)

    def trusts(self, key: PublicKey) -> bool:
        """Whether an admitted key is trusted, as far as the spec and the log are known."""
        if self._trust is None:
            return False
        return self._position.standings.of(key, self._trust).level == "trusted"

    def names_as_trusted(self, key: PublicKey) -> bool:
        """Whether the log or the spec names the key, and it is trusted."""
        named = self._trust is not None and key in self._trust.vouched
        return (named or key in self._position.standings.by_key) and self.trusts(key)

    @property
    def at_work(self) -> Position:
        """Whose programs run, where the newest head is of a run key that the log here has not reached yet."""
        return replace(self._position, epoch=max(self._announced, self._position.epoch))

    @property
    def coordinator(self) -> PublicKey:
        """The key of the coordinator's node."""
        return self.at_work.run_key(self.first)

    @property
    def counting(self) -> frozenset[PublicKey]:
        """The coordinator and the closers, which count the volunteers."""
        return frozenset((self.coordinator, *self._position.named))

    @property
    def closers(self) -> frozenset[PublicKey]:
        """Those of the open round and of the next one."""
        return frozenset(self._position.named)

    @property
    def run_key(self) -> PublicKey:
        """The one that is in force."""
        return self.signers.current[0]
