"""A volunteer's key as a file that only a passphrase opens: one JSON object, encrypted and authenticated.

Version 1: scrypt (RFC 7914) with fixed costs makes a key of the passphrase in Unicode's form NFC, and
ChaCha20-Poly1305 (RFC 8439) seals the 32 bytes, with everything else in the file as associated data. The
costs are no part of the file, so nobody can make one that takes minutes or gigabytes. `check` is a SHA-256
of the rest: it distinguishes a damaged file from a wrong passphrase, and protects nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import unicodedata
from typing import Annotated, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from pydantic import Field, ValidationError

from barnraise.contract.field_types import Run
from barnraise.core.errors import NewerVersion, StateError, UserError
from barnraise.core.identity import KEY_BYTES, SEED_BYTES, Identity
from barnraise.core.strict import Hex64, Strict

MAX_BYTES = 4096
MIN_PASSPHRASE = 8
"""Characters."""
MAX_PASSPHRASE = 1024
_SALT, _NONCE, _TAG = 16, 12, 16
_COST = 2**17
"""scrypt's N; with r = 8 it takes 128 MiB and about half a second."""
_FORMAT: Literal["barnraise-key"] = "barnraise-key"


class KeyFile(Strict):
    """The file. Binary values are lower-case hex digits."""

    format: Literal["barnraise-key"]
    version: Literal[1]
    run: Run
    public: Hex64
    salt: Annotated[str, Field(pattern=rf"^[0-9a-f]{{{2 * _SALT}}}$")]
    nonce: Annotated[str, Field(pattern=rf"^[0-9a-f]{{{2 * _NONCE}}}$")]
    sealed: Annotated[str, Field(pattern=rf"^[0-9a-f]{{{2 * (SEED_BYTES + _TAG)}}}$")]
    check: Hex64


class WrongPassphrase(UserError):
    """The passphrase does not open the file."""


def check_passphrase(passphrase: str) -> None:
    """Raises UserError for one that is too short to protect anything."""
    if not MIN_PASSPHRASE <= len(passphrase) <= MAX_PASSPHRASE:
        raise UserError(
            f"a passphrase has at least {MIN_PASSPHRASE} characters, and at most {MAX_PASSPHRASE:,}; this one"
            f" has {len(passphrase)}",
            fix="Run the command again, and choose several words.",
        )


def seal_key(identity: Identity, run: str, passphrase: str) -> bytes:
    """The file of a key. Raises UserError for a passphrase that is too short."""
    check_passphrase(passphrase)
    salt, nonce = os.urandom(_SALT), os.urandom(_NONCE)
    about: dict[str, object] = {
        "format": _FORMAT, "version": 1, "run": run, "public": identity.public, "salt": salt.hex(),
        "nonce": nonce.hex(),
    }  # fmt: skip
    sealed = ChaCha20Poly1305(_stretched(passphrase, salt)).encrypt(nonce, identity.seed, _canonical(about))
    about["sealed"] = sealed.hex()
    whole = {**about, "check": hashlib.sha256(_canonical(about)).hexdigest()}
    return json.dumps(whole, indent=1).encode() + b"\n"


def read_key_file(data: bytes, where: str) -> KeyFile:
    """The parsed file, whose check sum fits. where: its name, for messages.

    Raises StateError for anything else, NewerVersion.
    """
    damaged = StateError(
        f"{where} is no exported key, or it was cut or changed",
        fix="Copy it again, or export the key again where it is: `peer key export RUN FILE`.",
    )
    if len(data) > MAX_BYTES:
        raise damaged
    try:
        table = json.loads(data.decode("ascii"))
    except (ValueError, RecursionError):
        raise damaged from None
    if not isinstance(table, dict) or table.get("format") != _FORMAT:
        raise damaged
    version = table.get("version")
    if isinstance(version, int) and version > 1:
        raise NewerVersion(where, "0.2.0")
    try:
        found = KeyFile.model_validate(table)
    except ValidationError:
        raise damaged from None
    del table["check"]
    if hashlib.sha256(_canonical(table)).hexdigest() != found.check:
        raise damaged
    return found


def open_key(found: KeyFile, passphrase: str, again: str) -> Identity:
    """The key in a file. again: the command to type once more. Raises WrongPassphrase, StateError."""
    about = {name: getattr(found, name) for name in KeyFile.model_fields if name not in ("sealed", "check")}
    key = _stretched(passphrase, bytes.fromhex(found.salt))
    try:
        seed = ChaCha20Poly1305(key).decrypt(
            bytes.fromhex(found.nonce), bytes.fromhex(found.sealed), _canonical(about)
        )
    except InvalidTag:
        raise WrongPassphrase("the passphrase is another one", fix=f"Type it again: {again}") from None
    identity = Identity.from_seed(seed)
    if identity.public != found.public:
        raise StateError("the file names another key than it holds", fix="Use another copy of it.")
    return identity


def _stretched(passphrase: str, salt: bytes) -> bytes:
    text = unicodedata.normalize("NFC", passphrase).encode("utf-8", errors="surrogateescape")
    return Scrypt(salt=salt, length=KEY_BYTES, n=_COST, r=8, p=1).derive(text)


def _canonical(table: dict[str, object]) -> bytes:
    return json.dumps(table, sort_keys=True, separators=(",", ":")).encode("ascii")
