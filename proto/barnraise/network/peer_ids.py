"""Our keys in libp2p's formats, and the sockets of its daemon. No hivemind in here."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

from barnraise.core.identity import Identity
from barnraise.core.ids import PublicKey
from barnraise.runtime.files import disk_errors

SOCKET_PREFIX = "barnraise-"
"""Sockets carry the process id of their program: `barnraise-PID-…`."""


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


def remove_stale_sockets() -> None:
    """Remove sockets of our programs that were killed, and of this program's daemons that did not start."""
    for path in Path(tempfile.gettempdir()).glob(f"{SOCKET_PREFIX}*-p2p*.sock"):
        owner = path.name.split("-")[1]
        if owner.isdigit() and not (_answers(path) if int(owner) == os.getpid() else _lives(int(owner))):
            path.unlink(missing_ok=True)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as asking:
        return asking.connect_ex(str(path)) == 0


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
