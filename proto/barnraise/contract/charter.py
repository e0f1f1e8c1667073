"""The charter: a run spec and what it refers to, signed once by the run authority."""

from __future__ import annotations

from barnraise.contract.spec import RunSpec
from barnraise.core.errors import StateError
from barnraise.core.ids import BlobHash, PublicKey, RunId, StateHash
from barnraise.core.signed import Signable, Signed
from barnraise.core.strict import Hex64

MAX_CHARTER_BYTES = 2**20
"""Largest signed charter that is read."""


class Charter(Signable):
    """What every peer of a run pins and checks: the spec, and what the coordinator resolved it to."""

    DOMAIN = b"barnraise/Charter/1\n"

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


def check_version(signed: Signed[Charter]) -> None:
    """Raises StateError where the signer's version has other settings than this one.

    The digest of the spec, with which the log begins, is that of all settings: no round could be checked.
    """
    if not signed.is_exact:
        raise StateError(
            f"the run {signed.value.run} was made by a version of Barnraise that has other settings",
            fix="Install the version that its coordinator had when the run began; ask its maintainer.",
        )
