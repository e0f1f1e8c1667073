"""Replaying the log: from a first state, close by close, to the state that a checkpoint claims.

Pure: the caller supplies the bytes. Only the run's key is trusted. What that key did not sign, and what it
signed although it does not follow from the log, is returned as a `Difference`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from typing import Literal

from barnraise.contract.archive import contribution_path, entry_path, place_of
from barnraise.contract.certificates import Certificate
from barnraise.contract.charter import Charter
from barnraise.contract.close_rules import tokens_after
from barnraise.contract.log_entries import Rollback, changes_of, common_fields
from barnraise.contract.manifest import MANIFEST, AveragedState, Manifest
from barnraise.contract.records import Commit, blob_name
from barnraise.contract.run_keys import Successors
from barnraise.contract.standing import NONE, Standings
from barnraise.contract.state import Layout, TrainState
from barnraise.contract.tip import Tip, genesis_tip
from barnraise.contract.verdict import check_verdict
from barnraise.core.errors import MalformedBlob, NewerVersion, StateError, TrustError
from barnraise.core.ids import PublicKey, StateHash, blob_hash
from barnraise.core.units import format_rounds
from barnraise.fold.codec import Decoder, blob_sizes, format_sizes
from barnraise.fold.log import (
    Amendment,
    Link,
    Step,
    Unreadable,
    amended,
    check_step,
    fold_at,
    is_named,
    read_step,
    skipped,
)


class Cause(Enum):
    """Who is at fault for a difference. `peer.messages` renders it, with what to do."""

    SOURCE = "source"
    """The run's key did not sign these bytes: the copy is damaged, truncated or forged."""
    ABSENT = "absent"
    """The source does not have it: the copy is incomplete, or the run dropped it."""
    COORDINATOR = "coordinator"
    """The run's key signed both, and they contradict each other."""
    BASE = "base"
    """The base model here is not the run's, or the coordinator's charter is false."""


@dataclass(frozen=True)
class Difference:
    """The first item that is not as expected."""

    what: Literal["charter", "entry", "contribution", "manifest", "file", "state", "history"]
    where: str
    """Its path in the archive, or the state."""
    expected: str
    found: str
    cause: Cause


@dataclass(frozen=True)
class RoundReader:
    """Checks of a round that do not need the state before it."""

    charter: Charter
    layout: Layout

    def open(self, where: str, payload: bytes, certificate: Certificate) -> Step | Unreadable | Difference:
        """Check the entry at the path `where` but for its certificate and place, which `Replay` checks."""
        try:
            step = read_step(payload, certificate, self.charter)
        except TrustError as error:
            expected = "an entry of the run's log, with commits that their owners signed"
            return Difference("entry", where, expected, error.problem, Cause.SOURCE)
        for commit in step.commits if isinstance(step, Link) else ():
            if commit.size not in self._sizes:
                expected = f"{format_sizes(self._sizes)} bytes"
                return _contribution(commit, expected, f"{commit.size} bytes", Cause.COORDINATOR)
        return step

    def read(self, link: Link, blobs: Sequence[bytes | memoryview]) -> tuple[Decoder, ...] | Difference:
        """Check and decode a close's contributions. blobs: in the order of its commits."""
        found: list[Decoder] = []
        for commit, blob in zip(link.commits, blobs, strict=True):
            if not is_named(commit, blob):
                actual = f"{len(blob)} bytes that hash to {blob_hash(blob)}"
                return _contribution(commit, f"{commit.size} bytes", actual, Cause.SOURCE)
            try:
                found.append(Decoder(blob, self.charter.spec.codec, self.layout))
            except MalformedBlob as error:
                expected = "readable, since a close names it"
                return _contribution(commit, expected, error.problem, Cause.COORDINATOR)
        return tuple(found)

    @cached_property
    def _sizes(self) -> range:
        return blob_sizes(self.charter.spec.codec, self.layout)


@dataclass(frozen=True)
class Replay:
    """A replay up to one round. A step returns a new one, or what differs."""

    charter: Charter
    tip: Tip
    state: TrainState
    tokens: int
    """Folded before this round, by the count of the checkpoint that the replay started from."""
    planned: int | None
    """Of them, those that count in a run which is planned by tokens (`Progress.tokens`); else None."""
    rounds: int = 0
    """Of this replay, as are the next two fields."""
    contributions: int = 0
    owners: frozenset[PublicKey] = frozenset()

    @classmethod
    def from_base(cls, charter: Charter, state: TrainState) -> Replay | Difference:
        """Start at round 0. state: made by the verifier from the base model and the run's seed."""
        found = state.hash()
        if found != charter.genesis:
            return Difference("state", "state[0], made here", charter.genesis, found, Cause.BASE)
        tip = genesis_tip(charter)
        return cls(charter, tip, state, 0, tip.position.progress.tokens)

    @classmethod
    def from_checkpoint(
        cls, charter: Charter, manifest: Manifest, state: TrainState, standings: Standings = NONE
    ) -> Replay | Difference:
        """Start at a checkpoint. state, standings: read from its files, and equal to the manifest's."""
        if manifest.round == 0 and manifest.state != charter.genesis:
            where = "state[0], in the checkpoint of round 0"
            return Difference("state", where, charter.genesis, manifest.state, Cause.COORDINATOR)
        return cls(charter, manifest.tip(standings), state, manifest.tokens, manifest.progress.tokens)

    def check(self, step: Step | Unreadable) -> Step | Difference:
        """Check that the step is certified and continues the log. Raises NewerVersion."""
        position = self.tip.position
        where = entry_path(common_fields(step.entry).epoch, position.height)
        try:
            checked = check_step(position, step, self.charter)
        except NewerVersion:
            raise
        except TrustError as error:
            expected = f"the entry of height {position.height}, certified by the run's keys"
            return Difference("entry", where, expected, error.problem, Cause.SOURCE)
        except StateError as error:
            expected = f"it follows {position.previous}, the log up to there"
            return Difference("entry", where, expected, error.problem, Cause.COORDINATOR)
        return self._unfounded(checked, where) or checked

    def _unfounded(self, step: Step, where: str) -> Difference | None:
        """A verdict that does not follow from its figures."""
        charter, position = self.charter, self.tip.position
        try:
            for change in changes_of(step.entry):
                check_verdict(change, charter.run, position.run_key(charter.authority_key))
        except TrustError as error:
            expected = "verdicts that follow from their figures"
            return Difference("entry", where, expected, error.problem, Cause.COORDINATOR)
        return None

    def amend(self, amendment: Amendment) -> Replay | Difference:
        """Pass an entry that folds nothing, which `check` returned."""
        entry = amendment.entry
        if isinstance(entry, Rollback) and entry.state != self.tip.state:
            return self._state(StateHash(entry.state), f"the rollback of round {entry.round} to {entry.to}")
        if isinstance(entry, Rollback) and entry.tokens != self.planned:
            where = entry_path(entry.epoch, entry.height)
            found = f"a rollback to a state of {entry.tokens}"
            return Difference("entry", where, f"{self.planned} tokens", found, Cause.COORDINATOR)
        return replace(self, tip=amended(self.tip, amendment, self.charter))

    def skip(self, step: Step) -> Replay:
        """Pass a step that a later rollback made void, which `check` returned."""
        return replace(self, tip=skipped(self.tip, step, self.charter))

    def fold(self, link: Link, decoders: Sequence[Decoder]) -> Replay | Difference:
        """Fold one round, which `check` returned, if it starts from the current state."""
        close, tip = link.close, self.tip
        if close.base_state != tip.state:
            return self._state(StateHash(close.base_state), f"the close of round {close.round}")
        folded = fold_at(tip.position, self.state, link, decoders, self.charter.spec)
        return replace(
            self,
            tip=Tip(tip.position.after(close), folded.hash()),
            state=folded,
            tokens=tokens_after(self.tokens, link.commits),
            planned=close.progress.tokens,
            rounds=self.rounds + 1,
            contributions=self.contributions + len(link.commits),
            owners=self.owners | {PublicKey(commit.owner) for commit in link.commits},
        )

    def compare(self, manifest: Manifest, mean: StateHash | None = None) -> Difference | None:
        """Compare the checkpoint of this round with the replayed state; None where they are equal.

        mean: of the states that the manifest names, where it is of their mean.
        """
        where, tip = f"{place_of(manifest)}/{MANIFEST}", self.tip
        for name, expected, found in (
            ("round", tip.round, manifest.round),
            ("form", "trained", manifest.form),
            ("charter", self.charter.digest, manifest.charter),
            ("head of the log", tip.previous, manifest.previous),
            ("epoch", tip.epoch, manifest.epoch),
            ("height", tip.height, manifest.height),
            ("successors", _keys(tip.position.successors), _keys(manifest.successors)),
            ("standings", tip.position.standings.name, manifest.standings),
            ("void rounds", tip.position.void, manifest.void),
            ("progress", tip.position.progress, manifest.progress),
            ("tokens", self.tokens, manifest.tokens),
        ):
            if found != expected:
                return Difference(
                    "manifest", where, f"{name} {expected}", f"{name} {found}", Cause.COORDINATOR
                )
        if mean is not None and manifest.state != mean:
            what = f"the mean of the states of {format_rounds([each.round for each in manifest.mean_of])}"
            expected = f"{manifest.state}, as {where} says"
            return Difference("state", what, expected, f"{mean}, by those states", Cause.COORDINATOR)
        if mean is None and manifest.state != self.tip.state:
            return self._state(StateHash(manifest.state), where)
        return None

    def check_named(self, named: AveragedState, where: str) -> Difference | None:
        """Compare the replayed state with the one that a mean names; None where they are equal.

        where: the manifest of the mean.
        """
        return None if named.state == self.tip.state else self._state(StateHash(named.state), where)

    def _state(self, signed: StateHash, by: str) -> Difference:
        """The replayed state differs from the one that the run's key signed."""
        come_by = f"folding round {self.tip.round - 1}" if self.rounds else "what the replay began with"
        where, expected = f"state[{self.tip.round}]", f"{signed}, as {by} says"
        return Difference("state", where, expected, f"{self.tip.state}, by {come_by}", Cause.COORDINATOR)


def _keys(successors: Successors) -> str:
    return " ".join(named.successor for named in successors) or "none"


def _contribution(commit: Commit, expected: str, found: str, cause: Cause) -> Difference:
    who = f"the contribution of {commit.owner[:8]} to round {commit.round}"
    return Difference(
        "contribution", contribution_path(blob_name(commit)), f"{who}, {expected}", found, cause
    )
