"""The charter: a run spec and what it refers to, signed once by the run authority.

Its digest, with which the log begins, is that of the bytes that were signed. So a later version of Barnraise,
whose specs have further settings with defaults, computes the same digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationError
from typing_extensions import Self

from barnraise import __version__
from barnraise.contract.field_types import Release
from barnraise.contract.spec import RunSpec
from barnraise.core.errors import NewerVersion, StateError
from barnraise.core.ids import BlobHash, CharterDigest, PublicKey, RunId, StateHash
from barnraise.core.releases import is_newer
from barnraise.core.signed import Signable
from barnraise.core.strict import Hex64

NEEDS = "0.1.0"
"""The first version of Barnraise that has every setting of a charter. A new setting raises it."""

MAX_CHARTER_BYTES = 2**20
"""Largest signed charter that is read."""


class Charter(Signable):
    """What every peer of a run pins and checks: the spec, and what the coordinator resolved it to."""

    DOMAIN = b"barnraise/Charter/1\n"

    needs: Release = NEEDS
    """The version of Barnraise that a program needs to read this charter."""
    spec: RunSpec
    authority: Hex64
    """The run authority's public key."""
    model_files: Hex64
    """Fingerprint of the base model's files (`barnraise.models.base_model`)."""
    layout: Hex64
    """Digest of the trainable tensors' names and shapes (`barnraise.contract.state.Layout`)."""
    genesis: Hex64
    """Hash of state[0]."""
    data_index: Hex64
    """Blob hash of the dataset's index of shards."""
    rehearsed: bool = True
    """The coordinator took one step on the data before it signed; otherwise the first volunteer does."""

    _signed: bytes | None = PrivateAttr(default=None)
    """The bytes that it was read from."""

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """Raises NewerVersion where this version lacks settings, StateError for an unreleased format."""
        _check_version(payload)
        charter = cls.model_validate_json(payload)
        charter._signed = payload
        return charter

    def is_written_as(self, payload: bytes) -> bool:
        """Always: it keeps the bytes of the version that wrote it, and only the run key signs one."""
        return True

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Another charter has other bytes."""
        copy = super().model_copy(update=update, deep=deep)
        copy._signed = None
        return copy

    @property
    def payload(self) -> bytes:
        """The bytes that are signed, as the version that wrote them did."""
        return super().payload if self._signed is None else self._signed

    @property
    def digest(self) -> CharterDigest:
        """SHA-256 of the payload: it names the run's rules, and is `previous` of the first log entry."""
        return CharterDigest(hashlib.sha256(self.payload).hexdigest())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Charter) and self.payload == other.payload

    def __hash__(self) -> int:
        return hash(self.payload)

    @property
    def run(self) -> RunId:
        return RunId(self.spec.name)

    @property
    def authority_key(self) -> PublicKey:
        return PublicKey(self.authority)

    @property
    def genesis_hash(self) -> StateHash:
        return StateHash(self.genesis)

    @property
    def data_index_hash(self) -> BlobHash:
        return BlobHash(self.data_index)


class _Version(BaseModel):
    """What every version of the charter says."""

    model_config = ConfigDict(extra="ignore", strict=True)

    needs: Release | None = None


def _check_version(payload: bytes) -> None:
    try:
        needs = _Version.model_validate_json(payload).needs
    except ValidationError:
        return  # the strict model says what is wrong
    if needs is None:
        raise StateError(
            "the run was begun by a version of Barnraise before its first release, in a format that is no"
            " longer read",
            fix="Begin a new run: its coordinator needs an empty folder, its volunteers the new invite.",
        )
    if is_newer(needs, __version__):
        raise NewerVersion("the run's charter", needs)
