"""Ed25519 identities. The same key names a peer in its records and in libp2p."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from barnraise.core.errors import BadSignature, StateError
from barnraise.core.ids import PublicKey

SEED_BYTES = 32
KEY_BYTES = 32
SIGNATURE_BYTES = 64


@dataclass(frozen=True)
class Identity:
    """A private key. `seed` is the secret; `repr` shows only the public key."""

    _private: Ed25519PrivateKey

    @classmethod
    def generate(cls) -> Identity:
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_seed(cls, seed: bytes) -> Identity:
        """Raises StateError when `seed` is not 32 bytes."""
        if len(seed) != SEED_BYTES:
            raise StateError(
                f"a key file holds {SEED_BYTES} bytes, this one {len(seed)}",
                fix="Restore the key file from a backup, or remove it to get a new identity.",
            )
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    @property
    def seed(self) -> bytes:
        return self._private.private_bytes_raw()

    @cached_property
    def public(self) -> PublicKey:
        return PublicKey(self._private.public_key().public_bytes_raw().hex())

    def sign(self, message: bytes) -> bytes:
        return self._private.sign(message)

    def __repr__(self) -> str:
        return f"Identity({self.public[:8]}…)"


def verify(signer: PublicKey, message: bytes, signature: bytes) -> None:
    """Raises BadSignature unless `signature` is `signer`'s signature of `message`."""
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(signer)).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise BadSignature(
            f"the signature is not {signer[:8]}'s",
            fix="The bytes are dropped. If it is a record of the run itself, ask for a new invite.",
        ) from None
