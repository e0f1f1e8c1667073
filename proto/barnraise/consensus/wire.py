"""Messages between closers as bytes: a tag, and what is signed.

An `Ask` and its answer `News` bring a closer that is behind to the newest place of the log. They are not part
of the agreement.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

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
from barnraise.contract.double_signing import Certified
from barnraise.contract.field_types import Run
from barnraise.core.errors import MalformedRecord
from barnraise.core.identity import Identity
from barnraise.core.ids import PublicKey, RunId, short
from barnraise.core.signed import Signable, Signed, open_signed, sign

T = TypeVar("T", bound=Signable)

MAX_MESSAGE_BYTES = 2**17
"""A proposal of 64 closers has 33 promises of about 800 bytes."""


class AskStatement(Signable):
    """The signer asks for the newest entry of the log."""

    DOMAIN = b"barnraise/Ask/1\n"

    run: Run


class NewsStatement(Signable):
    """The signer knows the log up to this entry."""

    DOMAIN = b"barnraise/News/1\n"

    newest: Certified


@dataclass(frozen=True)
class Ask:
    """A closer is behind."""

    sender: PublicKey


@dataclass(frozen=True)
class News:
    """The newest entry that the sender knows; its certificate is not checked yet."""

    certified: Certified
    sender: PublicKey


@dataclass(frozen=True)
class Agreed:
    """A message of the agreement."""

    message: Message

    @property
    def sender(self) -> PublicKey:
        """Who signed it."""
        return self.message.signed.signer


Inbound = Ask | News | Agreed


def encode(message: Message) -> bytes:
    """A message of the agreement, as it is sent."""
    return _tag(message) + message.signed.wire


def encode_ask(identity: Identity, run: RunId) -> bytes:
    """A request for the newest entry, as it is sent."""
    return b"A" + sign(identity, AskStatement(run=run)).wire


def encode_news(identity: Identity, newest: Certified) -> bytes:
    """The newest entry, as it is sent."""
    return b"N" + sign(identity, NewsStatement(newest=newest)).wire


def decode(data: bytes) -> Inbound:
    """Check a message: size, all signatures, schema. Raises MalformedRecord, BadSignature."""
    tag, wire = data[:1], data[1:]
    match tag:
        case b"A":
            return Ask(open_signed(AskStatement, wire, signer=None).signer)
        case b"N":
            news = open_signed(NewsStatement, wire, signer=None)
            return News(news.value.newest, news.signer)
        case _:
            return Agreed(_decode_message(tag, wire))


def _decode_message(tag: bytes, wire: bytes) -> Message:
    match tag:
        case b"P":
            return PrepareMessage(_open(Prepare, wire))
        case b"M":
            return PromiseMessage(_open(Promise, wire))
        case b"R":
            return RefusalMessage(_open(Refusal, wire))
        case b"O":
            return open_proposal(_open(Proposal, wire, MAX_MESSAGE_BYTES))
        case b"V":
            return VoteMessage(_open(Vote, wire))
        case _:
            raise MalformedRecord(
                "a message between closers of an unknown kind",
                fix="It is dropped. Its sender may run another version.",
            )


def _open(model: type[T], wire: bytes, limit: int = 65_536) -> Signed[T]:
    """A canonical statement: certificates keep only signatures, and proposals embed promises."""
    signed = open_signed(model, wire, signer=None, limit=limit)
    if signed.payload != signed.value.payload:
        raise MalformedRecord(
            f"a {model.__name__} of {short(signed.signer)} that is not in canonical form",
            fix="It is dropped.",
        )
    return signed


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
