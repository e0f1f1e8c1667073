"""The state of a run as immutable data, and `apply`: the one place that says what an event changes.

The run store applies each event as it happens; a restart applies the events of the journal. What holds in
every state:

1. `history` counts the closes of `log`, and `round` is the next one.
2. Accepted contributions are contributions to the open round, one for each owner.
3. A checkpoint has the round of its manifest, which is at most the open round.
4. Published checkpoints are stored checkpoints. The score of each that has a held-out loss is in `scores`.
5. Evaluations are those of published checkpoints without a held-out loss.
6. Contributions are kept of the rounds from `replay_from` up to the open one, and of no other.
7. The round of `tip` is at most the open round.

And across every event: `log` and `history.closed` only grow, `replay_from`, `scores` and `shown` never
shrink.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, TypeVar

from barnraise.contract.certificates import Certificate
from barnraise.contract.charter import Charter
from barnraise.contract.divergence import LossTrend, round_loss
from barnraise.contract.manifest import HeldOut, Manifest
from barnraise.contract.records import Commit, Evaluation, Head, JoinClaim, blob_name
from barnraise.contract.rounds import Window
from barnraise.contract.spec import RunSpec
from barnraise.contract.tip import Position, Tip, first_position, genesis_tip
from barnraise.core.ids import BlobHash, Millis, PublicKey, Round, blob_hash
from barnraise.core.signed import Signed
from barnraise.fold.log import Step
from coordinator.store.append_only import AppendOnly
from coordinator.store.events import (
    CheckpointPublished,
    CheckpointsDropped,
    CheckpointWritten,
    ContributionAccepted,
    ContributionsForgotten,
    ContributionsLost,
    EvaluationEnded,
    EvaluationReceived,
    EvaluationStarted,
    Event,
    LogAmended,
    PeerAdmitted,
    RoundClosed,
    RoundFolded,
    RoundOpened,
    RunChartered,
    StateSaved,
)
from coordinator.store.history import History, Logged
from coordinator.store.layered import Layered
from coordinator.store.promotion import Promotion, promote
from coordinator.store.retention import outdated, replay_start

K = TypeVar("K")
V = TypeVar("V")

NEVER = Millis(0)


MAX_WAITING = 2**15
"""Admitted peers without a contribution whose claims are remembered: twice as many at most. One that is
forgotten is recorded again when it renews its admission."""


@dataclass(frozen=True)
class Score:
    """One point of the held-out curve."""

    tokens: int
    """Tokens folded up to there."""
    held_out: HeldOut


def _empty() -> Mapping[Any, Any]:
    return MappingProxyType({})


@dataclass(frozen=True)
class CoordinatorAddresses:
    """Where others reach the coordinator."""

    p2p: tuple[str, ...] = ()
    """Multiaddresses of libp2p."""
    api: tuple[str, ...] = ()
    """HOST:PORT of the gRPC service."""
    gateways: tuple[str, ...] = ()
    """http(s) addresses of the archive."""


@dataclass(frozen=True)
class RunState:
    """What the coordinator knows of a run at one moment. Any thread may read it."""

    signed_charter: Signed[Charter]
    tip: Tip
    """The newest state that is folded."""
    position: Position
    """The end of the log."""
    tokens: int = 0
    """Tokens folded up to `tip`."""
    loss: float | None = None
    """Token-weighted training loss of the last round that this process folded."""
    opens: Millis = NEVER
    """When the TRAIN phase of the open round starts; `NEVER` before the run is served for the first time."""
    log: AppendOnly[Logged] = field(default_factory=AppendOnly)
    """The entries of the log, by height."""
    certificate: Certificate | None = None
    """Of the newest of them."""
    accepted: Mapping[PublicKey, Signed[Commit]] = field(default_factory=_empty)
    """Contributions to the open round, by owner."""
    checkpoints: Mapping[int, Signed[Manifest]] = field(default_factory=_empty)
    """Those whose files are in the store, by round."""
    published: frozenset[int] = frozenset()
    """Rounds of the checkpoints that the archive shows: they were evaluated, or could not be."""
    shown: frozenset[int] = frozenset()
    """Rounds of all checkpoints that were ever published: the archive may still have dropped ones."""
    evaluating: int | None = None
    """Round of the checkpoint that the coordinator evaluates: it is kept until that ends."""
    scores: Mapping[int, Score] = field(default_factory=_empty)
    """The score of each checkpoint that was ever evaluated, by round."""
    evaluations: Mapping[int, Mapping[PublicKey, Signed[Evaluation]]] = field(default_factory=_empty)
    """The newest evaluation of each vouched volunteer, by round, while the coordinator has none itself."""
    trend: LossTrend = field(default_factory=LossTrend)
    history: History = field(default_factory=History)
    replay_from: int = 0
    """Contributions of the rounds from this one on are kept."""
    claims: Layered[PublicKey, JoinClaim] = field(default_factory=Layered)
    """The newest claim of each peer that contributed, and of the peers that were admitted last."""

    @classmethod
    def before_events(cls, charter: Signed[Charter]) -> RunState:
        """The state that the first event is applied to."""
        return cls(charter, genesis_tip(charter.value), first_position(charter.value))

    @property
    def charter(self) -> Charter:
        """The run's charter."""
        return self.signed_charter.value

    @property
    def spec(self) -> RunSpec:
        """The run's spec as chartered."""
        return self.charter.spec

    @property
    def round(self) -> Round:
        """The open round."""
        return self.position.round

    @property
    def window(self) -> Window:
        """The times of the open round."""
        return Window(self.round, self.opens, self.spec.round)

    @property
    def newest_checkpoint(self) -> Signed[Manifest]:
        """Raises ValueError before the first checkpoint is written, and where a restart lost all."""
        return self.checkpoints[max(self.checkpoints)]

    @property
    def unpublished(self) -> list[int]:
        """Rounds of the checkpoints that wait for their evaluation, oldest first."""
        return sorted(self.checkpoints.keys() - self.published)

    @property
    def unevaluated(self) -> list[int]:
        """Rounds of the published checkpoints without a held-out loss, oldest first."""
        return [round for round in sorted(self.published) if self.held_out(round) is None]

    def held_out(self, round: int) -> HeldOut | None:
        """The held-out loss of a checkpoint that is kept; None where it has none."""
        return self.checkpoints[round].value.held_out

    def promotion(self) -> Promotion | None:
        """Which checkpoints are `main`, `best` and `latest`; None before the first is published."""
        found = ((round, self.held_out(round)) for round in sorted(self.published))
        losses = {round: held_out.loss if held_out else None for round, held_out in found}
        within = self.spec.checkpoint.promote_within
        return promote(losses, within, self.trend.good_until) if losses else None

    def head(
        self, now: Millis, addresses: CoordinatorAddresses, *, turns: int, volunteers: int, tokens: int
    ) -> Head:
        """The head to announce. turns, volunteers, tokens: as in `Head`."""
        newest = self.newest_checkpoint
        return Head(
            run=self.charter.run,
            round=self.round,
            epoch=self.position.epoch,
            height=self.position.height,
            entry=self.position.previous,
            certificate=self.certificate,
            state=self.tip.state if self.tip.round == self.round else None,
            opens=self.opens,
            turns=turns,
            volunteers=volunteers,
            tokens=tokens,
            checkpoint=blob_hash(newest.wire),
            checkpoint_round=newest.value.round,
            at=now,
            bootstrap=addresses.p2p,
            api=addresses.api,
            gateways=addresses.gateways,
        )

    def next_replay_from(self) -> int:
        """Where `replay_from` moves to keep the contributions within the spec's limit."""
        sizes, limit = self.history.sizes(), self.spec.checkpoint.log_gigabytes * 1e9
        return replay_start(self.replay_from, sizes, self.published, limit=limit)

    def outdated_checkpoints(self) -> tuple[int, ...]:
        """Rounds of the checkpoints to drop: those that the spec does not keep and nothing needs."""
        named = (promotion.main, promotion.best) if (promotion := self.promotion()) else ()
        needed = {round for round in (*named, self.replay_from, self.evaluating) if round is not None}
        return tuple(outdated(self.checkpoints, self.spec.checkpoint.keep, needed))

    def names(self) -> set[BlobHash]:
        """Blobs of the checkpoints and contributions that are kept."""
        manifests = self.checkpoints.values()
        files = (BlobHash(entry.hash) for signed in manifests for entry in signed.value.files)
        folded = (blob for blobs in self.history.kept for blob in blobs)
        accepted = (blob_name(commit.value) for commit in self.accepted.values())
        return {*files, *folded, *accepted, *(blob_hash(signed.wire) for signed in manifests)}


def apply(state: RunState, event: Event) -> RunState:
    """The state after `event`. Pure: the only transition function, for live use and for restarts."""
    return _TRANSITIONS[type(event)](state, event)


def _chartered(state: RunState, event: RunChartered) -> RunState:
    return replace(state, signed_charter=event.charter)


def _admitted(state: RunState, event: PeerAdmitted) -> RunState:
    claims = state.claims.with_items({event.claim.signer: event.claim.value})
    if len(claims) >= 2 * MAX_WAITING + len(state.history.earlier):
        claims = _without_oldest(claims, state.history)
    return replace(state, claims=claims)


def _without_oldest(claims: Layered[PublicKey, JoinClaim], history: History) -> Layered[PublicKey, JoinClaim]:
    """Those of peers that contributed, and MAX_WAITING of the others: those that were admitted last."""
    shares = history.shares(before=history.closed)
    waiting = [owner for owner in claims if owner not in shares]
    dropped = {*waiting[:-MAX_WAITING]}
    return Layered({owner: claim for owner, claim in claims.items() if owner not in dropped})


def _opened(state: RunState, event: RoundOpened) -> RunState:
    return replace(state, opens=event.at)


def _accepted(state: RunState, event: ContributionAccepted) -> RunState:
    if event.commit.value.round != state.round:  # it came too late
        return state
    return replace(state, accepted=_with(state.accepted, event.commit.signer, event.commit))


def _closed(state: RunState, event: RoundClosed) -> RunState:
    return replace(
        _entered(state, event.link),
        opens=event.at,
        accepted=_empty(),
        trend=state.trend.after(state.round, round_loss(event.link.commits)),
        history=state.history.with_close(event.link),
    )


def _amended(state: RunState, event: LogAmended) -> RunState:
    after = _entered(state, event.amendment)
    folded = state.tip.position == state.position
    return replace(after, tip=Tip(after.position, state.tip.state)) if folded else after


def _entered(state: RunState, step: Step) -> RunState:
    return replace(
        state,
        position=state.position.after(step.entry),
        log=state.log.extended(Logged(step.hash, step.entry.epoch)),
        certificate=step.certificate,
    )


def _folded(state: RunState, event: RoundFolded) -> RunState:
    return replace(state, tip=event.tip, tokens=event.tokens, loss=event.loss)


def _written(state: RunState, event: CheckpointWritten) -> RunState:
    round = event.manifest.value.round
    return replace(
        state,
        checkpoints=_with(state.checkpoints, round, event.manifest),
        published=state.published - {round},
        evaluations=_without(state.evaluations, (round,)),
    )


def _published(state: RunState, event: CheckpointPublished) -> RunState:
    manifest = event.manifest.value
    round, held_out = manifest.round, manifest.held_out
    shown = replace(
        state,
        checkpoints=_with(state.checkpoints, round, event.manifest),
        published=state.published | {round},
        shown=state.shown | {round},
    )
    if held_out is None:
        return shown
    return replace(
        shown,
        scores=_with(state.scores, round, Score(manifest.tokens, held_out)),
        evaluations=_without(state.evaluations, (round,)),
    )


def _evaluated(state: RunState, event: EvaluationReceived) -> RunState:
    round = event.evaluation.value.round
    if round not in state.published or state.held_out(round) is not None:  # it came too late
        return state
    known = state.evaluations.get(round, {})
    found = _with(known, event.evaluation.signer, event.evaluation)
    return replace(state, evaluations=_with(state.evaluations, round, found))


def _forgot(state: RunState, event: ContributionsForgotten) -> RunState:
    return replace(state, replay_from=event.round, history=state.history.without_before(event.round))


def _saved(state: RunState, event: StateSaved) -> RunState:
    return state


def _dropped(state: RunState, event: CheckpointsDropped) -> RunState:
    return replace(
        state,
        checkpoints=_without(state.checkpoints, event.rounds),
        published=state.published - {*event.rounds},
        evaluations=_without(state.evaluations, event.rounds),
    )


def _lost(state: RunState, event: ContributionsLost) -> RunState:
    return replace(state, accepted=_without(state.accepted, event.owners))


def _evaluation_started(state: RunState, event: EvaluationStarted) -> RunState:
    return replace(state, evaluating=event.round)


def _evaluation_ended(state: RunState, event: EvaluationEnded) -> RunState:
    return replace(state, evaluating=None)


def _with(mapping: Mapping[K, V], key: K, value: V) -> Mapping[K, V]:
    return MappingProxyType({**mapping, key: value})


def _without(mapping: Mapping[K, V], keys: Collection[K]) -> Mapping[K, V]:
    return MappingProxyType({key: value for key, value in mapping.items() if key not in keys})


_TRANSITIONS: Mapping[type[Event], Callable[[RunState, Any], RunState]] = {
    RunChartered: _chartered,
    PeerAdmitted: _admitted,
    RoundOpened: _opened,
    ContributionAccepted: _accepted,
    RoundClosed: _closed,
    LogAmended: _amended,
    RoundFolded: _folded,
    CheckpointWritten: _written,
    CheckpointPublished: _published,
    EvaluationReceived: _evaluated,
    ContributionsForgotten: _forgot,
    StateSaved: _saved,
    CheckpointsDropped: _dropped,
    ContributionsLost: _lost,
    EvaluationStarted: _evaluation_started,
    EvaluationEnded: _evaluation_ended,
}
