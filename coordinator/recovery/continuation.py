"""Whether a log that somebody holds continues ours, also where its newest closers are unknown here."""

from __future__ import annotations

from barnraise.contract.certificates import Certificate
from barnraise.contract.charter import Charter
from barnraise.contract.double_signing import Certified
from barnraise.contract.log_entries import common_fields
from barnraise.contract.tip import Position
from barnraise.core.errors import MalformedRecord
from barnraise.core.ids import BlobHash
from barnraise.fold.log import Step, Unreadable, check_step, read_step
from barnraise.fold.log_walk import Read

MAX_UNPROVED_BYTES = 2**28
"""Entries that are read before one of them is known to be certified."""


async def continues(position: Position, end: Certified, read: Read, charter: Charter) -> bool:
    """Whether certified entries lead from `position` to `end`. Raises Unreachable, TrustError, StateError."""
    found: list[Step | Unreadable] = []
    size, name = 0, BlobHash(end.vote.entry)
    certificate: Certificate | None = end.certificate
    while certificate is not None and name != position.previous:
        payload = await read(name)
        size += len(payload)
        step = read_step(payload, certificate, charter)
        if size > MAX_UNPROVED_BYTES:
            raise MalformedRecord("a log that is too long", fix="It is dropped.")
        said = common_fields(step.entry)
        if said.height < position.height:
            return False
        found.append(step)
        name, certificate = BlobHash(said.previous), said.certificate
    for step in reversed(found):
        position = position.after(check_step(position, step, charter).entry)
    return bool(found)
