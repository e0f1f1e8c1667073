"""`Signed[T]`: a strict model, the bytes that were signed, and who signed them.

On the wire: 32 bytes of public key, 64 bytes of signature, then the model as JSON. The
signature covers the model's domain line too, so that a signature of a commit is not valid for a close.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import ConfigDict, ValidationError
from pydantic_core import from_json, to_json
from typing_extensions import Self

from barnraise.core.errors import BadSignature, MalformedRecord
from barnraise.core.identity import KEY_BYTES, SIGNATURE_BYTES, Identity, verify
from barnraise.core.ids import PublicKey
from barnraise.core.strict import Strict

_PREFIX = KEY_BYTES + SIGNATURE_BYTES


class Signable(Strict):
    """Base of all signed models."""

    DOMAIN: ClassVar[bytes]
    """The line that a signature covers before the payload. A constant of the protocol: it stays the same when
    the class is renamed."""

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """The value of a signed payload. Raises pydantic's ValidationError."""
        return cls.model_validate_json(payload)

    @property
    def payload(self) -> bytes:
        """The bytes that are signed after the domain line."""
        return self.model_dump_json().encode()

    @property
    def message(self) -> bytes:
        """The bytes that are signed."""
        return self.DOMAIN + self.payload

    def is_written_as(self, payload: bytes) -> bool:
        """Whether the payload that this was parsed from is the canonical one.

        Fields with a default may be absent: an older version wrote it.
        """
        return self._written == payload

    @property
    def _written(self) -> bytes:
        """As this version writes the fields that the value was parsed from."""
        return self.model_dump_json(exclude_unset=True).encode()


class Extensible(Signable):
    """Base of records between programs of different versions: fields that are not known are ignored.

    What they were signed with stays in `Signed.wire`, so that others get them.
    """

    model_config = ConfigDict(extra="ignore")

    def is_written_as(self, payload: bytes) -> bool:
        """As for all, of what is known; the rest has no white space, and each name once."""
        known = self._written
        if known == payload:
            return True
        found = from_json(payload)
        return to_json(found) == payload and to_json(_common(found, from_json(known))) == known


def _common(found: Any, known: Any) -> Any:
    """What `found` has of `known`, in the order of `found`."""
    if not isinstance(found, dict) or not isinstance(known, dict):
        return found
    return {name: _common(value, known[name]) for name, value in found.items() if name in known}


T = TypeVar("T", bound=Signable)


@dataclass(frozen=True)
class Signed(Generic[T]):
    """A value with a valid signature: only `sign` and `open_signed` construct it."""

    value: T
    signer: PublicKey
    wire: bytes

    @property
    def text(self) -> str:
        """The wire bytes in base64, for embedding in another record."""
        return base64.b64encode(self.wire).decode()

    @property
    def signature(self) -> str:
        """The signature alone, in hexadecimal."""
        return self.wire[KEY_BYTES:_PREFIX].hex()

    @property
    def payload(self) -> bytes:
        """The bytes that were signed after the domain line."""
        return self.wire[_PREFIX:]


def sign(identity: Identity, value: T) -> Signed[T]:
    payload = value.payload
    signature = identity.sign(value.DOMAIN + payload)
    return Signed(value, identity.public, bytes.fromhex(identity.public) + signature + payload)


def open_signed(model: type[T], wire: bytes, *, signer: PublicKey | None, limit: int = 65_536) -> Signed[T]:
    """Check size, signature, schema and spelling, in that order: a value has one payload.

    signer: the key that must have signed; None where the record itself names the key that may.
    Raises MalformedRecord, BadSignature.
    """
    if not _PREFIX < len(wire) <= limit:
        raise MalformedRecord(
            f"a signed {model.__name__} of {len(wire)} bytes (at most {limit} are read)",
            fix="It is dropped. If this repeats, report its sender to the run's maintainer.",
        )
    claimed, payload = signer_of(wire), payload_of(wire)
    verify(claimed, model.DOMAIN + payload, wire[KEY_BYTES:_PREFIX])
    if signer is not None and claimed != signer:
        raise BadSignature(
            f"a {model.__name__} signed by {claimed[:8]} where only {signer[:8]} may sign",
            fix="It is dropped. If it is the run's own record, check that the invite is for this run.",
        )
    try:
        value = model.parse(payload)
        if not value.is_written_as(payload):
            raise ValueError("it is not in canonical form")
    except ValueError as invalid:
        raise MalformedRecord(
            f"a {model.__name__} of {claimed[:8]} is not one: {_first(invalid)}",
            fix="It is dropped. Its sender may run another version: compare `peer --version`.",
        ) from None
    return Signed(value, claimed, wire)


def _first(invalid: ValueError) -> str:
    if isinstance(invalid, ValidationError):
        return str(invalid.errors(include_url=False)[0]["msg"])
    return str(invalid)


def signer_of(wire: bytes) -> PublicKey:
    """The key that a wire form says it is signed by. Nothing is checked."""
    return PublicKey(wire[:KEY_BYTES].hex())


def payload_of(wire: bytes) -> bytes:
    """The bytes that a wire form says were signed. Nothing is checked."""
    return wire[_PREFIX:]


def open_text(model: type[T], text: str, *, signer: PublicKey | None, limit: int = 65_536) -> Signed[T]:
    """`open_signed` for base64 text."""
    return open_signed(model, open_base64(text, f"a signed {model.__name__}"), signer=signer, limit=limit)


def open_base64(text: str, what: str) -> bytes:
    """The bytes of a text, which is the only one that they have. Raises MalformedRecord."""
    try:
        wire = base64.b64decode(text, validate=True)
    except ValueError:  # binascii.Error is a ValueError; text that is not ASCII raises ValueError itself
        wire = b""
    if base64.b64encode(wire).decode() != text:
        raise MalformedRecord(f"{what} that is not base64", fix="It is dropped; ask its sender to update.")
    return wire
