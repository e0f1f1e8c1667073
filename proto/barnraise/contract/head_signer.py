"""Who signed a head, before it is parsed: what a stranger sends is refused unread."""

from __future__ import annotations

from pydantic import BaseModel, ValidationError

from barnraise.contract.run_keys import Signers, Successors, generation_of
from barnraise.core.errors import BadSignature, MalformedRecord
from barnraise.core.ids import PublicKey, short
from barnraise.core.signed import payload_of, signer_of


class _Introduction(BaseModel):
    """What a head of every version may have."""

    successors: Successors = ()
    epoch: int = 0


def signer_of_head(wire: bytes, run: str, signers: Signers) -> tuple[PublicKey, Signers]:
    """The key that a signed head names, and the signers with the successors that it brings along.

    It has to name the run key of its epoch. Its signature, and whether the key may announce that epoch, are
    still to be checked. Raises MalformedRecord, BadSignature.
    """
    claimed = signer_of(wire)
    try:
        brought = _Introduction.model_validate_json(payload_of(wire))
    except ValidationError:
        if claimed in signers:
            return claimed, signers  # the signature says whether the key or the way here made it so
        raise MalformedRecord("a head without a list of successors", fix="It is dropped.") from None
    known = signers.introduced(brought.successors, run)
    if claimed not in known or generation_of(brought.epoch) > len(brought.successors):
        raise no_head_of(claimed)
    return claimed, known


def no_head_of(key: PublicKey) -> BadSignature:
    """The refusal of a head by a key that announces nothing in its epoch."""
    return BadSignature(
        f"a head by {short(key)}, which announces nothing in its epoch of this run", fix="It is dropped."
    )
