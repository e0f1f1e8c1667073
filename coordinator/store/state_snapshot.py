"""From the state of a run to its snapshot, and back: pure."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from barnraise.contract.charter import Charter
from barnraise.contract.divergence import LossTrend
from barnraise.contract.manifest import Manifest, open_manifest
from barnraise.contract.records import MAX_EVALUATION_BYTES, Evaluation
from barnraise.contract.run_keys import Signers
from barnraise.contract.standing import restored
from barnraise.contract.tip import Position
from barnraise.core.ids import BlobHash, Millis, PublicKey, Round
from barnraise.core.signed import Signed, open_text
from coordinator.store.append_only import AppendOnly
from coordinator.store.history import History, Logged, Share, epoch_starts
from coordinator.store.layered import Layered
from coordinator.store.run_state import RunState, Score
from coordinator.store.snapshot import (
    SavedCheckpoint,
    SavedPosition,
    SavedRound,
    SavedScore,
    SavedTrend,
    Snapshot,
)

_NAME = 64
"""Digits of an entry's name."""


def snapshot_of(run: RunState) -> Snapshot:
    """run: without accepted contributions, as it is after a close."""
    position, history = run.position, run.history
    return Snapshot(
        position=SavedPosition(
            round=position.round,
            previous=position.previous,
            epoch=position.epoch,
            height=position.height,
            closers=position.closers,
            next_closers=position.next_closers,
            successors=position.successors,
            standings=position.standings.saved,
            void=position.void,
            halted=position.halted,
            progress=position.progress,
        ),
        opens=run.opens,
        names="".join(logged.name for logged in run.log),
        epochs=tuple(epoch_starts(run.log)),
        certificate=run.certificate,
        checkpoints=tuple(_saved_checkpoint(run, round) for round in sorted(run.checkpoints)),
        averages=tuple(run.averages[round].text for round in sorted(run.averages)),
        shown=tuple(sorted(run.shown)),
        trend=SavedTrend(
            recent=run.trend.recent,
            lowest=run.trend.lowest if math.isfinite(run.trend.lowest) else None,
            lowest_round=run.trend.lowest_round,
        ),
        scores=tuple(
            SavedScore(round=round, tokens=score.tokens, held_out=score.held_out)
            for round, score in run.scores.items()
        ),
        changes=tuple(run.changes.values()),
        invited={str(key): id for key, id in run.invited.items()},
        lists=run.lists,
        replay_from=run.replay_from,
        rounds=tuple(
            SavedRound(
                tokens={str(key): count for key, count in tokens.items()},
                blobs={str(name): size for name, size in blobs.items()},
            )
            for tokens, blobs in zip(history.tokens, history.kept, strict=True)
        ),
        kept_from=history.kept_from,
        earlier={owner: (share.rounds, share.tokens) for owner, share in history.earlier.items()},
        claims=tuple(run.claims.values()),
    )


def state_of(
    snapshot: Snapshot, charter: Signed[Charter], closers: frozenset[PublicKey] = frozenset()
) -> RunState:
    """The state that `snapshot_of` was given, without what a restart finds in the files.

    closers: as of `RowReader`. Raises MalformedRecord, BadSignature.
    """
    manifests = [_open_manifest(saved.manifest, charter.value, closers) for saved in snapshot.checkpoints]
    averages = [_open_manifest(text, charter.value, closers) for text in snapshot.averages]
    checkpoints = {signed.value.round: signed for signed in manifests}
    saved_by_round = dict(zip(checkpoints, snapshot.checkpoints, strict=True))
    return replace(
        RunState.before_events(charter),
        position=_position(snapshot.position),
        opens=Millis(snapshot.opens),
        log=AppendOnly(_logged(snapshot)),
        certificate=snapshot.certificate,
        checkpoints=MappingProxyType(checkpoints),
        averages=MappingProxyType({signed.value.round: signed for signed in averages}),
        published=frozenset(round for round, saved in saved_by_round.items() if saved.published),
        shown=frozenset(snapshot.shown),
        trend=_trend(snapshot.trend),
        scores=MappingProxyType({each.round: Score(each.tokens, each.held_out) for each in snapshot.scores}),
        evaluations=MappingProxyType(
            {round: _evaluations(saved) for round, saved in saved_by_round.items() if saved.evaluations}
        ),
        history=_history(snapshot),
        changes=MappingProxyType({PublicKey(each.key): each for each in snapshot.changes}),
        invited=MappingProxyType({PublicKey(key): id for key, id in snapshot.invited.items()}),
        lists=tuple(map(BlobHash, snapshot.lists)),
        replay_from=snapshot.replay_from,
        claims=Layered({PublicKey(claim.owner): claim for claim in snapshot.claims}),
    )


def names_in(snapshot: Snapshot) -> list[BlobHash]:
    """The names of the log's entries, by height."""
    names = snapshot.names
    return [BlobHash(names[start : start + _NAME]) for start in range(0, len(names), _NAME)]


def _logged(snapshot: Snapshot) -> list[Logged]:
    names = names_in(snapshot)
    found: list[Logged] = []
    ends = [*(start for _, start in snapshot.epochs), len(names)][1:]
    for (epoch, start), end in zip(snapshot.epochs, ends, strict=True):
        found += (Logged(name, epoch) for name in names[start:end])
    return found


def _saved_checkpoint(run: RunState, round: int) -> SavedCheckpoint:
    return SavedCheckpoint(
        manifest=run.checkpoints[round].text,
        published=round in run.published,
        evaluations=tuple(signed.text for signed in run.evaluations.get(round, {}).values()),
    )


def _open_manifest(text: str, charter: Charter, closers: frozenset[PublicKey]) -> Signed[Manifest]:
    wire = base64.b64decode(text)
    signers = Signers(charter.authority_key, closers=closers)
    return open_manifest(wire, run=charter.run, signers=signers)


def _evaluations(saved: SavedCheckpoint) -> Mapping[PublicKey, Signed[Evaluation]]:
    found = (
        open_text(Evaluation, text, signer=None, limit=MAX_EVALUATION_BYTES) for text in saved.evaluations
    )
    return MappingProxyType({signed.signer: signed for signed in found})


def _position(saved: SavedPosition) -> Position:
    closers = saved.next_closers
    return Position(
        Round(saved.round),
        BlobHash(saved.previous),
        saved.epoch,
        saved.height,
        tuple(map(PublicKey, saved.closers)),
        None if closers is None else tuple(map(PublicKey, closers)),
        saved.successors,
        restored(saved.standings),
        tuple((Round(first), Round(last)) for first, last in saved.void),
        saved.halted,
        saved.progress,
    )


def _trend(saved: SavedTrend) -> LossTrend:
    lowest = math.inf if saved.lowest is None else saved.lowest
    return LossTrend(saved.recent, lowest, saved.lowest_round)


def _history(snapshot: Snapshot) -> History:
    return History(
        Layered({PublicKey(key): Share(*share) for key, share in snapshot.earlier.items()}),
        snapshot.kept_from,
        AppendOnly(
            MappingProxyType({PublicKey(key): tokens for key, tokens in each.tokens.items()})
            for each in snapshot.rounds
        ),
        AppendOnly(
            MappingProxyType({BlobHash(name): size for name, size in each.blobs.items()})
            for each in snapshot.rounds
        ),
    )
