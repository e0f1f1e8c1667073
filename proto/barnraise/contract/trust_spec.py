"""The section `trust` of a run spec: who may take part, and how much one contributor counts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from barnraise.core.strict import Hex64, Strict

Mode = Literal["invite", "open", "allow-list"]

MAX_VOUCHED = 1024


class TrustSpec(Strict):
    """Who may take part, and how much one contributor counts."""

    mode: Mode = "invite"
    """Who may take part.
    `invite`: holders of an invitation, which `coordinator invite` makes. `open`: everyone who has the run's
    address; new keys are on probation. `allow-list`: the keys in `vouched`, and those that
    `coordinator vouch` adds."""
    vouched: Annotated[tuple[Hex64, ...], Field(max_length=MAX_VOUCHED)] = ()
    """Keys of volunteers who are trusted from the first round on, and need no invitation.
    `peer key` prints a volunteer's public key. In open runs name your own volunteers: their contributions
    are what those of strangers are compared with."""
    probation_share: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Share of a round that all keys on probation hold together at most.
    It counts in places and in weight, while trusted keys take part."""
    probation_work: Annotated[int, Field(ge=1, le=10_000)] = 20
    """Audited contributions after which a key on probation is trusted."""
    key_share: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Share of a round's weight that one key holds at most.
    It applies to rounds of five or more contributions."""
    claim_factor: Annotated[int, Field(ge=1, le=1000)] = 4
    """A contribution weighs at most this many times the median of the trusted keys' tokens.
    Raise it where one volunteer's machine is far faster than the others."""

    @model_validator(mode="after")
    def _vouched_fits_the_mode(self) -> TrustSpec:
        if len(set(self.vouched)) != len(self.vouched):
            raise ValueError("vouched names a key twice")
        if self.mode == "allow-list" and not self.vouched:
            raise ValueError("vouched is empty, and mode is `allow-list`: nobody could take part")
        return self
