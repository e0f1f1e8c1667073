"""The run key's order for one entry of the log: a closer votes for none of these entries without it.

Whether an entry may be voted for has to follow from the entry and the log alone: a proposal that one closer
voted for and others refuse would end the log. So the order is in the entry, and names its place.
"""

from __future__ import annotations

import hashlib
from typing import TypeVar

from barnraise.contract.field_types import Epoch, Height, Kind, Run
from barnraise.contract.log_entries import Decay, Delegation, Ordered, Rollback, StandingChange, own_fields
from barnraise.core.errors import MalformedRecord
from barnraise.core.identity import Identity
from barnraise.core.ids import PublicKey
from barnraise.core.signed import Signable, open_text, sign
from barnraise.core.strict import Hex64


class EntryOrder(Signable):
    """Signed by the run key, for one place of the log."""

    DOMAIN = b"barnraise/EntryOrder/1\n"

    run: Run
    epoch: Epoch
    height: Height
    previous: Hex64
    """The entry before it."""
    kind: Kind
    content: Hex64
    """SHA-256 of what the entry says (`own_fields`)."""


OrderedEntry = TypeVar("OrderedEntry", Delegation, StandingChange, Rollback, Decay)


def with_order(entry: OrderedEntry, run_key: Identity) -> OrderedEntry:
    """The entry with the order that closers ask for."""
    return entry.model_copy(update={"order": sign(run_key, _order_for(entry)).text})


def check_order(entry: Ordered, run_key: PublicKey) -> None:
    """Raises MalformedRecord, BadSignature unless the run key ordered this entry at this place."""
    if entry.order is None:
        raise MalformedRecord(f"a {entry.kind} without an order of the run key", fix="It gets no vote.")
    order = open_text(EntryOrder, entry.order, signer=run_key).value
    if order != _order_for(entry):
        raise MalformedRecord(f"a {entry.kind} with the order for another entry", fix="It gets no vote.")


def _order_for(entry: Ordered) -> EntryOrder:
    return EntryOrder(
        run=entry.run,
        epoch=entry.epoch,
        height=entry.height,
        previous=entry.previous,
        kind=entry.kind,
        content=hashlib.sha256(own_fields(entry)).hexdigest(),
    )
