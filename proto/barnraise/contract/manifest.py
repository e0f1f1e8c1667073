"""The manifest of a checkpoint: every file's hash and size, signed by the run authority, or, while that is
away, by a closer (`check_interim`)."""

from __future__ import annotations

import json
import re
from collections.abc import Container
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from barnraise.contract.certificates import MAX_CLOSERS
from barnraise.contract.field_types import Epoch, Height
from barnraise.contract.tip import Position, Tip
from barnraise.core.errors import BadSignature, MalformedRecord
from barnraise.core.identity import KEY_BYTES, SIGNATURE_BYTES
from barnraise.core.ids import RUN_PATTERN, BlobHash, PublicKey, Round, RunId, StateHash, short
from barnraise.core.signed import Signable, Signed, open_signed, signer_of
from barnraise.core.strict import Hex64, Strict

MANIFEST = "manifest.bin"
"""File of a checkpoint with its signed manifest in wire form."""
MANIFEST_JSON = "manifest.json"
"""File of a checkpoint with the same content as MANIFEST, for people and for tools that cannot read that."""
MAX_MANIFEST_BYTES = 2**20
SAFE_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
_WINDOWS_DEVICES = re.compile(r"^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?$", re.IGNORECASE)


Form = Literal["trained", "merged", "gguf", "base", "data"]
"""Content of a folder: the trained state (an adapter or a whole model), the adapter merged into its base
model, a GGUF file, the base model, or the run's data."""


class HeldOut(Strict):
    """A held-out loss: how well a state predicts samples that no volunteer trains on."""

    loss: Annotated[float, Field(ge=0)]
    """Mean cross entropy in nats a token."""
    tokens: Annotated[int, Field(ge=1)]
    """Tokens that the mean covers."""


class FileEntry(Strict):
    """One file of a checkpoint."""

    name: str
    """A plain file name without folders that is valid on every operating system."""
    hash: Hex64
    size: Annotated[int, Field(ge=0, lt=2**44)]

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        if not SAFE_NAME.fullmatch(name) or _WINDOWS_DEVICES.match(name) or name.endswith("."):
            raise ValueError("not a plain file name")
        return name


class Manifest(Signable):
    """The files of a checkpoint: state[round] in a form that transformers or peft load."""

    DOMAIN = b"barnraise/Manifest/1\n"

    form: Form
    run: Annotated[str, Field(pattern=RUN_PATTERN)]
    round: Annotated[int, Field(ge=0)]
    state: Hex64
    """Hash of state[round]."""
    previous: Hex64
    """Head of the log: name of the entry before this state; the charter's digest where there is none."""
    epoch: Epoch
    height: Height
    """Entries up to there."""
    closers: Annotated[tuple[Hex64, ...], Field(max_length=MAX_CLOSERS)]
    """Keys that certify the entries of `round`; none: the run key does."""
    charter: Hex64
    """The charter's digest."""
    tokens: Annotated[int, Field(ge=0)]
    """Tokens folded before `round`."""
    held_out: HeldOut | None
    """None where it was not evaluated."""
    files: Annotated[tuple[FileEntry, ...], Field(min_length=1, max_length=1000)]

    @field_validator("files")
    @classmethod
    def _distinct(cls, files: tuple[FileEntry, ...]) -> tuple[FileEntry, ...]:
        if len({entry.name.lower() for entry in files}) != len(files):
            raise ValueError("two files with one name")
        return files

    @property
    def tip(self) -> Tip:
        closers = tuple(map(PublicKey, self.closers))
        position = Position(Round(self.round), BlobHash(self.previous), self.epoch, self.height, closers)
        return Tip(position, StateHash(self.state))

    @property
    def size(self) -> int:
        return sum(entry.size for entry in self.files)


def position_fields(position: Position) -> dict[str, Any]:
    """The fields of a manifest that say where in the log its state is."""
    return {
        "round": position.round,
        "previous": position.previous,
        "epoch": position.epoch,
        "height": position.height,
        "closers": position.closers,
    }


def open_manifest(
    wire: bytes, *, run: RunId, authority: PublicKey, closers: Container[PublicKey] = ()
) -> Signed[Manifest]:
    """closers: keys that sign checkpoints too, while the coordinator is away.

    Raises MalformedRecord, BadSignature.
    """
    signer = claimed if (claimed := signer_of(wire)) in closers else authority
    signed = open_signed(Manifest, wire, signer=signer, limit=MAX_MANIFEST_BYTES)
    if signed.value.run != run:
        raise MalformedRecord(
            f"a checkpoint of the run {signed.value.run!r} where {run!r} was expected",
            fix="Ask for the right run's invite or address.",
        )
    return signed


def check_interim(signed: Signed[Manifest], authority: PublicKey, position: Position) -> None:
    """Refuse a checkpoint of a single closer that would change who certifies the log.

    Its state needs no trust: the next close names the state that it folds to. position: the newest one that
    is known. Raises BadSignature.
    """
    if signed.signer != authority and signed.value.tip.position.closers != position.closers:
        raise BadSignature(
            f"a checkpoint by {short(signed.signer)} that names other closers than the log",
            fix="Another one is taken. The coordinator's name any closers.",
        )


def manifest_json(signed: Signed[Manifest]) -> bytes:
    """The bytes of MANIFEST_JSON."""
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
