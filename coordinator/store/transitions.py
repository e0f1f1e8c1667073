"""What each event changes in the state of a run: `apply` is the only transition function.

The run store applies each event as it happens; a restart applies the events of the journal.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, TypeVar

from barnraise.contract.divergence import LossTrend, round_loss
from barnraise.contract.invitation import invitation_id
from barnraise.contract.log_entries import Change, Rollback, changes_of
from barnraise.contract.manifest import Manifest
from barnraise.contract.records import JoinClaim
from barnraise.contract.tip import Tip
from barnraise.core.ids import BlobHash, Millis, PublicKey
from barnraise.core.signed import Signed
from barnraise.fold.log import Step
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
from coordinator.store.run_state import RunState, Score, empty

K = TypeVar("K")
V = TypeVar("V")

MOST_LISTS = 32
"""Lists of standings that are kept as blobs: a program enters the log a few rounds before its end."""
MAX_WAITING = 2**15
"""Admitted peers without a contribution whose claims are remembered: twice as many at most. One that is
forgotten is recorded again when it renews its admission."""


def apply(state: RunState, event: Event) -> RunState:
    """The state after `event`. Pure: the only transition function, for live use and for restarts."""
    return _TRANSITIONS[type(event)](state, event)


def _chartered(state: RunState, event: RunChartered) -> RunState:
    return replace(state, signed_charter=event.charter)


def _admitted(state: RunState, event: PeerAdmitted) -> RunState:
    claim, key = event.claim.value, event.claim.signer
    if state.is_first_use(claim):
        state = replace(state, invited=_with(state.invited, key, invitation_id(claim.invitation)))
    claims = state.claims.with_items({key: claim})
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
        accepted=empty(),
        trend=state.trend.after(state.round, round_loss(event.link.commits, event.link.close.weights)),
        history=state.history.with_close(event.link),
    )


def _amended(state: RunState, event: LogAmended) -> RunState:
    after, entry = _without_banned(_entered(state, event.amendment)), event.amendment.entry
    if isinstance(entry, Rollback):
        return _rolled_back(after, entry)
    folded = state.tip.position == state.position
    return replace(after, tip=Tip(after.position, state.tip.state)) if folded else after


def _rolled_back(state: RunState, entry: Rollback) -> RunState:
    """state: at the place after the rollback. Its state is computed next (`RoundFolded`)."""
    return replace(
        state,
        opens=Millis(entry.at),
        accepted=empty(),
        trend=LossTrend(),
        history=state.history.with_rollback(entry.to),
        scores=_without(state.scores, [round for round in state.scores if state.position.is_void(round)]),
    )


def _without_banned(state: RunState) -> RunState:
    banned = state.position.standings.banned & state.accepted.keys()
    return replace(state, accepted=_without(state.accepted, banned)) if banned else state


def _changes_in(step: Step) -> dict[PublicKey, Change]:
    changes = changes_of(step.entry)
    return {PublicKey(each.key): each.model_copy(update={"verdict": None}) for each in changes}


def _entered(state: RunState, step: Step) -> RunState:
    position, changes = state.position.after(step.entry), _changes_in(step)
    return replace(
        state,
        position=position,
        changes=MappingProxyType({**state.changes, **changes}) if changes else state.changes,
        lists=_with_list(state.lists, position.standings.name),
        log=state.log.extended(Logged(step.hash, step.entry.epoch)),
        certificate=step.certificate,
    )


def _with_list(lists: tuple[BlobHash, ...], name: BlobHash | None) -> tuple[BlobHash, ...]:
    if name is None or name in lists[-1:]:
        return lists
    return (*lists, name)[-MOST_LISTS:]


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
    if manifest.averaged:
        return replace(state, averages=_with(state.averages, round, event.manifest))
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
        averages=_without(state.averages, event.averages),
        published=state.published - {*event.rounds},
        evaluations=_without(state.evaluations, event.rounds),
    )


def _lost(state: RunState, event: ContributionsLost) -> RunState:
    return replace(state, accepted=_without(state.accepted, event.owners))


def _evaluation_started(state: RunState, event: EvaluationStarted) -> RunState:
    return replace(state, evaluating=event.round, averaging=event.averaged)


def _evaluation_ended(state: RunState, event: EvaluationEnded) -> RunState:
    return replace(state, evaluating=None, averaging=())


def lost_checkpoints(state: RunState, is_lost: Callable[[Signed[Manifest]], bool]) -> CheckpointsDropped:
    """The event that drops the checkpoints and means of which something is lost."""
    return CheckpointsDropped(
        tuple(round for round, signed in state.checkpoints.items() if is_lost(signed)),
        tuple(round for round, signed in state.averages.items() if is_lost(signed)),
    )


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
