"""`manifest.json`: the content of a signed manifest, for people and tools that cannot read `manifest.bin`."""

from __future__ import annotations

import json

from barnraise.contract.manifest import MANIFEST, Manifest
from barnraise.core.identity import KEY_BYTES, SIGNATURE_BYTES
from barnraise.core.signed import Signed

MANIFEST_JSON = "manifest.json"
"""File of a checkpoint, next to its manifest."""


def manifest_json(signed: Signed[Manifest]) -> bytes:
    """Canonical bytes for a manifest."""
    head = KEY_BYTES + SIGNATURE_BYTES
    view = {
        "about": f"What {MANIFEST} says, to be read. The proof is {MANIFEST}: {KEY_BYTES} bytes of key,"
        f" {SIGNATURE_BYTES} of Ed25519 signature, then the JSON that is signed,"
        " with the line 'barnraise/Manifest/1' before it.",
        "key": signed.signer,
        "signature": signed.wire[KEY_BYTES:head].hex(),
        "signed": signed.value.model_dump(mode="json"),
    }
    return (json.dumps(view, indent=1) + "\n").encode()
