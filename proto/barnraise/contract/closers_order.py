"""The run key's order to name other closers: a closer votes for no delegation without one.

Whether an entry may be voted for has to follow from the entry and the log alone: a proposal that one closer
voted for and others refuse would end the log. So the order is in the entry, and names its place.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from barnraise.contract.certificates import MAX_CLOSERS
from barnraise.contract.field_types import Epoch, Height, Run
from barnraise.contract.log_entries import Delegation
from barnraise.core.errors import MalformedRecord
from barnraise.core.ids import PublicKey
from barnraise.core.signed import Signable, open_text
from barnraise.core.strict import Hex64


class ClosersOrder(Signable):
    """Signed by the run key, for one place of the log."""

    DOMAIN = b"barnraise/ClosersOrder/1\n"

    run: Run
    epoch: Epoch
    height: Height
    previous: Hex64
    """The entry before the delegation."""
    closers: Annotated[tuple[Hex64, ...], Field(max_length=MAX_CLOSERS)]


def check_order(entry: Delegation, run_key: PublicKey) -> None:
    """Raises MalformedRecord, BadSignature unless the run key ordered this delegation at this place."""
    if entry.order is None:
        raise MalformedRecord("a delegation without an order of the run key", fix="It gets no vote.")
    order = open_text(ClosersOrder, entry.order, signer=run_key).value
    asked = ClosersOrder(
        run=entry.run,
        epoch=entry.epoch,
        height=entry.height,
        previous=entry.previous,
        closers=entry.closers,
    )
    if order != asked:
        raise MalformedRecord("a delegation with the order for another one", fix="It gets no vote.")
