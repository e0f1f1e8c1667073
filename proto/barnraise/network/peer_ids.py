"""Our keys in libp2p's formats. No hivemind in here."""

from __future__ import annotations

from pathlib import Path

from barnraise.core.identity import KEY_BYTES, Identity
from barnraise.core.ids import PublicKey
from barnraise.runtime.files import disk_errors

_ED25519 = bytes([0x00, 0x24, 0x08, 0x01, 0x12, 0x20])
"""Begins libp2p's name of an Ed25519 key: an identity multihash of 36 bytes, its protobuf."""


def peer_id_bytes(key: PublicKey) -> bytes:
    """libp2p's name of an Ed25519 key: an identity multihash of its protobuf
    (github.com/libp2p/specs, peer-ids)."""
    return _ED25519 + bytes.fromhex(key)


def key_of(name: bytes) -> PublicKey | None:
    """The Ed25519 key that a libp2p name is of. None where it is of another kind of key."""
    named = name[: len(_ED25519)] == _ED25519 and len(name) == len(_ED25519) + KEY_BYTES
    return PublicKey(name[len(_ED25519) :].hex()) if named else None


def write_identity(identity: Identity, folder: Path) -> Path:
    """Our Ed25519 key in libp2p's own format, so that one key names the peer everywhere."""
    path = folder / "libp2p.key"
    secret = identity.seed + bytes.fromhex(identity.public)
    with disk_errors(path):
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_bytes(bytes([0x08, 0x01, 0x12, len(secret)]) + secret)  # the same specification
    return path
