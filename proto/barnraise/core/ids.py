"""Distinct types for the identifiers that parties exchange, so that they cannot be confused."""

from __future__ import annotations

import hashlib
from typing import NewType

RunId = NewType("RunId", str)
"""The run's short name, as in its `run.toml`."""

PublicKey = NewType("PublicKey", str)
"""An Ed25519 public key, 64 lower-case hex digits. It names a peer, or the run authority."""

BlobHash = NewType("BlobHash", str)
"""SHA-256 of a blob's bytes, 64 lower-case hex digits."""

StateHash = NewType("StateHash", str)
"""SHA-256 that names a training state (see `barnraise.contract.state.TrainState.hash`)."""

CharterDigest = NewType("CharterDigest", str)
"""SHA-256 of the charter's signed payload."""

Round = NewType("Round", int)
"""A round's number. `state[0]` is the base; folding round r makes `state[r + 1]`."""

Millis = NewType("Millis", int)
"""Milliseconds since the Unix epoch on the run's clock. An integer, since it has one form in JSON."""

HASH_PATTERN = r"^[0-9a-f]{64}$"
RUN_PATTERN = r"^[a-z0-9][a-z0-9-]{0,39}$"


def blob_hash(data: bytes | bytearray | memoryview) -> BlobHash:
    return BlobHash(hashlib.sha256(data).hexdigest())


def short(name: str) -> str:
    """The first eight characters: enough for people to distinguish hashes."""
    return name[:8]
