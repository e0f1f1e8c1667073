"""Our keys in libp2p's formats. No hivemind in here."""

from __future__ import annotations

from pathlib import Path

from barnraise.core.identity import Identity
from barnraise.core.ids import PublicKey
from barnraise.runtime.files import disk_errors


def peer_id_bytes(key: PublicKey) -> bytes:
    """libp2p's name of an Ed25519 key: an identity multihash of its protobuf
    (github.com/libp2p/specs, peer-ids)."""
    public = bytes([0x08, 0x01, 0x12, 0x20]) + bytes.fromhex(key)
    return bytes([0x00, len(public)]) + public


def write_identity(identity: Identity, folder: Path) -> Path:
    """Our Ed25519 key in libp2p's own format, so that one key names the peer everywhere."""
    path = folder / "libp2p.key"
    secret = identity.seed + bytes.fromhex(identity.public)
    with disk_errors(path):
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_bytes(bytes([0x08, 0x01, 0x12, len(secret)]) + secret)  # the same specification
    return path
