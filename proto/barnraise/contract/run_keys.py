"""The keys of a run, one after the other: each names its successor beforehand, and signs epochs of its own.

The charter names the first run key. Where it names a successor, both sign that, and the log has it (the entry
`Succession`). When the run key is lost or stolen, the successor resumes the run in the first epoch that is
its own. No key signs an epoch of another one, so that what the key before it signs later is void, and
of two histories the successor's has the later epoch.

| epochs                                        | run key            |
|-----------------------------------------------|--------------------|
| 0 to EPOCHS_PER_KEY - 1                       | the charter's      |
| n * EPOCHS_PER_KEY to (n+1)*EPOCHS_PER_KEY - 1 | the n-th successor |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import Field, ValidationError

from barnraise.contract.certificates import Signature
from barnraise.contract.field_types import Run
from barnraise.core.errors import BadSignature, MalformedRecord
from barnraise.core.identity import Identity, verify
from barnraise.core.ids import PublicKey, short
from barnraise.core.signed import Signable
from barnraise.core.strict import Hex64, Strict

EPOCHS_PER_KEY = 1_000_000
MAX_SUCCESSORS = 16
"""All of them are in each head, of at most 16 kB."""
MAX_NAMED_BYTES = 1024


def generation_of(epoch: int) -> int:
    """Successors that followed each other up to this epoch: 0 for the charter's key."""
    return epoch // EPOCHS_PER_KEY


def first_epoch(generation: int) -> int:
    """The first epoch that a run key signs."""
    return generation * EPOCHS_PER_KEY


class SuccessorStatement(Signable):
    """Who signs for a run when its key is lost or stolen."""

    DOMAIN = b"barnraise/Successor/1\n"

    run: Run
    key: Hex64
    """The run key before it."""
    generation: Annotated[int, Field(ge=1, le=MAX_SUCCESSORS)]
    """Of the successor."""
    successor: Hex64


class NamedSuccessor(Strict):
    """The statement, signed by both keys: by the successor too, so that nobody names a key of others."""

    statement: SuccessorStatement
    by_key: Signature
    by_successor: Signature

    @property
    def successor(self) -> PublicKey:
        """Its public key."""
        return PublicKey(self.statement.successor)


def name_successor(run: str, generation: int, key: Identity, successor: Identity) -> NamedSuccessor:
    """generation: of the successor."""
    statement = SuccessorStatement(run=run, key=key.public, generation=generation, successor=successor.public)
    by_key, by_successor = (identity.sign(statement.message).hex() for identity in (key, successor))
    return NamedSuccessor(statement=statement, by_key=by_key, by_successor=by_successor)


def parse_named(payload: bytes) -> NamedSuccessor:
    """Its signatures are not checked yet. Raises MalformedRecord."""
    try:
        return NamedSuccessor.model_validate_json(payload[: MAX_NAMED_BYTES + 1])
    except ValidationError:
        raise MalformedRecord("a named successor is none", fix="It is not used.") from None


Successors = Annotated[tuple[NamedSuccessor, ...], Field(max_length=MAX_SUCCESSORS)]
"""Of a run's first key, oldest first; the last may not be in force yet."""


def check_named(named: NamedSuccessor, run: str, keys: Sequence[PublicKey]) -> None:
    """keys: the run keys up to the one that names the successor. Raises BadSignature."""
    said = named.statement
    if (said.run, said.key, said.generation) != (run, keys[-1], len(keys)) or said.successor in keys:
        raise BadSignature(
            f"a successor of the run key {short(keys[-1])} that is named for another key, run or place",
            fix="It is dropped.",
        )
    verify(PublicKey(said.key), said.message, bytes.fromhex(named.by_key))
    verify(named.successor, said.message, bytes.fromhex(named.by_successor))


def keys_of(first: PublicKey, successors: Successors) -> tuple[PublicKey, ...]:
    """The run keys by generation. first: the charter's."""
    return (first, *(named.successor for named in successors))


def proved(said: Successors, run: str, first: PublicKey, known: Successors = ()) -> Successors:
    """`said` after a check, or `known` where it is longer. first: the charter's key.

    Raises BadSignature where a key did not name its successor, or `known` has another one: the first that a
    key named stands.
    """
    successors = agreed(known, said)
    keys = keys_of(first, successors)
    for generation, named in enumerate(successors[len(known) :], start=len(known) + 1):
        check_named(named, run, keys[:generation])
    return successors


def agreed(known: Successors, said: Successors) -> Successors:
    """The longer of two lists. Raises BadSignature where they differ: the first one that was named stands."""
    for ours, theirs in zip(known, said, strict=False):
        if ours.successor != theirs.successor:
            raise another_successor(ours.successor, theirs.successor)
    return (*known, *said[len(known) :])


def another_successor(known: PublicKey, said: PublicKey) -> BadSignature:
    """The refusal of a second successor of one key."""
    return BadSignature(
        f"{short(said)} is named as a successor of the run key where {short(known)} was named before",
        fix="The first one stands. If the run's own record says it, see docs/RUN_KEY.md.",
    )


@dataclass(frozen=True)
class Signers:
    """The keys that sign heads, admissions and manifests at one place of the log."""

    first: PublicKey
    """The charter's run key."""
    successors: Successors = ()
    generation: int = 0
    """Of the run key that is in force."""
    closers: frozenset[PublicKey] = frozenset()
    """They sign as the run key does."""
    banned: frozenset[PublicKey] = frozenset()
    """Volunteers whose admissions count no longer."""

    def introduced(self, successors: Successors, run: str) -> Signers:
        """With the successors that a record brings along. Raises BadSignature as `proved`."""
        return replace(self, successors=proved(successors, run, self.first, self.successors))

    @property
    def run_keys(self) -> tuple[PublicKey, ...]:
        """By generation, also those that are in force no longer, or not yet."""
        return keys_of(self.first, self.successors)

    @property
    def current(self) -> tuple[PublicKey, ...]:
        """The run key in force, and the successors that are named after it."""
        return self.run_keys[self.generation :]

    def __contains__(self, key: object) -> bool:
        """Whether the key may admit volunteers: run keys before the one in force sign nothing any more."""
        return key in self.closers or key in self.current

    def announces(self, key: PublicKey, epoch: int) -> bool:
        """Whether a head of this epoch by this key counts."""
        if self._signs_as_closer(key, epoch):
            return self.generation <= generation_of(epoch) < len(self.run_keys)
        return key in self and self.run_keys.index(key) == generation_of(epoch)

    def describes(self, key: PublicKey, epoch: int) -> bool:
        """Whether a manifest of a place in this epoch by this key counts.

        What earlier run keys signed of their own epochs stays valid, and later ones may sign it again.
        """
        if self._signs_as_closer(key, epoch):
            return True
        return key in self.run_keys and self.run_keys.index(key) >= generation_of(epoch)

    def _signs_as_closer(self, key: PublicKey, epoch: int) -> bool:
        """Whether the key counts as a closer's: a run key does not in the epochs of its successors."""
        return key in self.closers and key not in self.run_keys[: generation_of(epoch)]
