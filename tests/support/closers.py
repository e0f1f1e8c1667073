"""Closers in tests: keys and signatures without cryptography, and values to agree on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TypeVar

from barnraise.consensus.ballots import Ballots, Pace
from barnraise.consensus.state import Record, Seat
from barnraise.consensus.statements import Place, Value
from barnraise.core.ids import BlobHash, PublicKey, Round, RunId
from barnraise.core.signed import Signable, Signed

T = TypeVar("T", bound=Signable)

RUN = RunId("tiny")
PLACE = Place(RUN, epoch=0, height=7, round=Round(6))


@dataclass(frozen=True)
class FakeSigner:
    """Signs nothing: the machine gets only what was checked."""

    key: PublicKey

    def __call__(self, value: T, /) -> Signed[T]:
        payload = value.payload
        signature = hashlib.sha256(self.key.encode() + payload).digest() * 2
        return Signed(value, self.key, bytes.fromhex(self.key) + signature + payload)


def key(index: int) -> PublicKey:
    """The key of a closer; they are sorted."""
    return PublicKey(f"{index:02x}" * 32)


INDEX = {key(index): index for index in range(64)}


def value(name: int) -> Value:
    """An entry."""
    return Value(BlobHash(hashlib.sha256(str(name).encode()).hexdigest()), "close")


def seat(index: int, count: int, grace: int = 30_000) -> Seat:
    """One of `count` closers. The first one proposes first."""
    ballots = Ballots(tuple(map(key, range(count))))
    return Seat(key(index), FakeSigner(key(index)), ballots, Pace(grace, seed=0))


def fresh(place: Place = PLACE) -> Record:
    """The record of a closer that has done nothing at a place."""
    return Record(place)
