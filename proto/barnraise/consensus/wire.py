"""Messages between closers as bytes: a tag, and the signed statement."""

from __future__ import annotations

from typing_extensions import assert_never

from barnraise.consensus.statements import (
    Message,
    Prepare,
    PrepareMessage,
    Promise,
    PromiseMessage,
    Proposal,
    ProposalMessage,
    Refusal,
    RefusalMessage,
    VoteMessage,
    open_proposal,
)
from barnraise.contract.certificates import Vote
from barnraise.core.errors import MalformedRecord
from barnraise.core.signed import open_signed

MAX_MESSAGE_BYTES = 2**17
"""A proposal of 64 closers has 33 promises of about 800 bytes."""


def encode(message: Message) -> bytes:
    """The bytes to send."""
    return _tag(message) + message.signed.wire


def decode(data: bytes) -> Message:
    """Check a message: size, all signatures, schema. Raises MalformedRecord, BadSignature."""
    tag, wire = data[:1], data[1:]
    match tag:
        case b"P":
            return PrepareMessage(open_signed(Prepare, wire, signer=None))
        case b"M":
            return PromiseMessage(open_signed(Promise, wire, signer=None))
        case b"R":
            return RefusalMessage(open_signed(Refusal, wire, signer=None))
        case b"O":
            return open_proposal(open_signed(Proposal, wire, signer=None, limit=MAX_MESSAGE_BYTES))
        case b"V":
            return VoteMessage(open_signed(Vote, wire, signer=None))
        case _:
            raise MalformedRecord(
                "a message between closers of an unknown kind",
                fix="It is dropped. Its sender may run another version.",
            )


def _tag(message: Message) -> bytes:
    match message:
        case PrepareMessage():
            return b"P"
        case PromiseMessage():
            return b"M"
        case RefusalMessage():
            return b"R"
        case ProposalMessage():
            return b"O"
        case VoteMessage():
            return b"V"
        case _:
            assert_never(message)
