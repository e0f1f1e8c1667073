"""A snapshot of a run's state, signed by the key of its folder: what a restart begins with.

It is taken with a close, when no contribution is accepted yet. What a restart finds in the files (the folded
state, its loss) is not in it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from barnraise.contract.certificates import Certificate
from barnraise.contract.field_types import Count, Epoch, Height, RoundNumber, Time, Void
from barnraise.contract.invitation import InvitationId
from barnraise.contract.log_entries import Change
from barnraise.contract.manifest import HeldOut
from barnraise.contract.records import JoinClaim
from barnraise.contract.run_keys import Successors
from barnraise.contract.schedule import NO_PROGRESS, Stated
from barnraise.contract.standing import SavedList
from barnraise.core.signed import Signable
from barnraise.core.strict import Hex64, Strict

MAX_SNAPSHOT_BYTES = 2**28


class SavedPosition(Strict):
    """A `Position` of the log."""

    round: RoundNumber
    previous: Hex64
    epoch: Epoch
    height: Height
    closers: tuple[Hex64, ...]
    next_closers: tuple[Hex64, ...] | None
    successors: Successors = ()
    standings: SavedList = SavedList()
    void: Void = ()
    halted: bool = False
    progress: Stated = NO_PROGRESS


class SavedRound(Strict):
    """The contributions to one round."""

    tokens: dict[Hex64, Count]
    """By owner."""
    blobs: dict[Hex64, Count]
    """Bytes by name."""


class SavedCheckpoint(Strict):
    """One checkpoint whose files are kept."""

    manifest: str
    """The signed manifest in base64."""
    published: bool
    evaluations: tuple[str, ...]
    """Signed evaluations by vouched volunteers, in base64."""


class SavedScore(Strict):
    """One point of the held-out curve."""

    round: RoundNumber
    tokens: Count
    held_out: HeldOut


class SavedTrend(Strict):
    """The training losses of the last rounds."""

    recent: tuple[float, ...]
    lowest: float | None
    """None before the first round."""
    lowest_round: RoundNumber


class Snapshot(Signable):
    """The state of a run after a close."""

    DOMAIN = b"barnraise/Snapshot/1\n"

    version: Literal[1] = 1
    position: SavedPosition
    opens: Time
    names: Annotated[str, Field(pattern=r"^([0-9a-f]{64})*$")]
    """Names of the log's entries, one after another."""
    epochs: tuple[tuple[Epoch, Height], ...]
    """Epochs of the log, each with the height of its first entry."""
    certificate: Certificate | None
    checkpoints: tuple[SavedCheckpoint, ...]
    averages: Annotated[tuple[str, ...], Field(exclude_if=lambda averages: not averages)] = ()
    """The signed manifests, in base64, of the means of states whose files are kept."""
    shown: tuple[RoundNumber, ...]
    """Rounds of all checkpoints that were ever published."""
    scores: tuple[SavedScore, ...]
    trend: SavedTrend
    changes: Annotated[tuple[Change, ...], Field(exclude_if=lambda changes: not changes)] = ()
    """Why keys have their standing."""
    invited: Annotated[
        dict[Hex64, InvitationId],
        Field(default_factory=dict, exclude_if=lambda invited: not invited),
    ]
    """The invitation by which each key was admitted first."""
    lists: Annotated[tuple[Hex64, ...], Field(exclude_if=lambda lists: not lists)] = ()
    """Names of the newest lists of standings."""
    replay_from: RoundNumber
    rounds: tuple[SavedRound, ...]
    """Those whose contributions are kept."""
    kept_from: RoundNumber
    """The first of them."""
    earlier: dict[Hex64, tuple[Count, Count]]
    """Rounds and tokens of each volunteer before `kept_from`."""
    claims: tuple[JoinClaim, ...]
    """The newest of each volunteer, the newest last."""
