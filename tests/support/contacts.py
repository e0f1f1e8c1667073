"""Contacts and heads as volunteers exchange them."""

from __future__ import annotations

from collections.abc import Sequence

from barnraise.contract.contacts import Contact
from barnraise.contract.records import Head
from barnraise.core.identity import Identity
from barnraise.core.signed import Signed, sign
from tests.support import parts

TCP = "/ip4/127.0.0.1/tcp/7"


def contact(
    owner: Identity = parts.ADA, *, addresses: Sequence[str] = (TCP,), at: int = parts.NOW, **other: object
) -> Signed[Contact]:
    fields: dict[str, object] = {
        "run": parts.RUN, "owner": owner.public, "admission": parts.admission(owner, expires=at + 1),
        "addresses": tuple(addresses), "at": at,
    }  # fmt: skip
    return sign(owner, Contact.model_validate(fields | other))


def signed_head(by: Identity = parts.AUTHORITY, **fields: object) -> Signed[Head]:
    return sign(by, parts.head(**fields))
