"""The state of a run as immutable data. `coordinator.store.transitions` says what an event changes.

What holds in every state:

1. `history` counts the closes and rollbacks of `log`, and `round` is the next one.
2. Accepted contributions are contributions to the open round, one for each owner.
3. A checkpoint has the round of its manifest, which is at most the open round.
4. Published checkpoints are stored checkpoints. The score of each that has a held-out loss is in `scores`.
   Means of states are published when they are stored, and have a held-out loss.
5. Evaluations are those of published checkpoints without a held-out loss.
6. Contributions are kept of the rounds from `replay_from` up to the open one, and of no other.
7. The round of `tip` is at most the open round.

And across every event: `log` and `history.closed` only grow, `replay_from`, `scores` and `shown` never
shrink.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from barnraise.contract.certificates import Certificate
from barnraise.contract.charter import Charter
from barnraise.contract.divergence import LossTrend
from barnraise.contract.log_entries import Change
from barnraise.contract.manifest import HeldOut, Manifest
from barnraise.contract.records import Commit, Evaluation, Head, JoinClaim, blob_name
from barnraise.contract.rounds import Window, seconds_between
from barnraise.contract.run_keys import Signers, generation_of
from barnraise.contract.spec import RunSpec
from barnraise.contract.standing import Standing
from barnraise.contract.tip import Position, Tip, first_position, genesis_tip
from barnraise.core.ids import BlobHash, Millis, PublicKey, Round, blob_hash
from barnraise.core.signed import Signed
from coordinator.store.append_only import AppendOnly
from coordinator.store.history import History, Logged
from coordinator.store.layered import Layered
from coordinator.store.promotion import Promotion, promote
from coordinator.store.retention import outdated, replay_start

NEVER = Millis(0)
CLAIM_NEWS_SECONDS = 3600.0
"""Between two claims of one key that are journaled, by the times that they state."""
MAX_NODES, OWN_NODES = 16, 8
"""libp2p addresses in a head, and those of its signer among them."""


@dataclass(frozen=True)
class Score:
    """One point of the held-out curve."""

    tokens: int
    """Tokens folded up to there."""
    held_out: HeldOut


def empty() -> Mapping[Any, Any]:
    """An immutable mapping without items."""
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

    def and_nodes(self, others: Sequence[str]) -> CoordinatorAddresses:
        """With libp2p addresses of other nodes to join by, as far as a head has space for them."""
        return replace(self, p2p=tuple(dict.fromkeys((*self.p2p[:OWN_NODES], *others)))[:MAX_NODES])


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
    accepted: Mapping[PublicKey, Signed[Commit]] = field(default_factory=empty)
    """Contributions to the open round, by owner."""
    checkpoints: Mapping[int, Signed[Manifest]] = field(default_factory=empty)
    """Those whose files are in the store, by round."""
    averages: Mapping[int, Signed[Manifest]] = field(default_factory=empty)
    """The means of states whose files are in the store, by the round of the newest."""
    published: frozenset[int] = frozenset()
    """Rounds of the checkpoints that the archive shows: they were evaluated, or could not be."""
    shown: frozenset[int] = frozenset()
    """Rounds of all checkpoints that were ever published: the archive may still have dropped ones."""
    evaluating: int | None = None
    """Round of the checkpoint that the coordinator evaluates: it is kept until that ends."""
    averaging: tuple[int, ...] = ()
    """Rounds of those whose mean is evaluated next: they are kept until then, unless they become void."""
    scores: Mapping[int, Score] = field(default_factory=empty)
    """The score of each checkpoint that was ever evaluated, by round."""
    evaluations: Mapping[int, Mapping[PublicKey, Signed[Evaluation]]] = field(default_factory=empty)
    """The newest evaluation of each vouched volunteer, by round, while the coordinator has none itself."""
    trend: LossTrend = field(default_factory=LossTrend)
    history: History = field(default_factory=History)
    replay_from: int = 0
    """Contributions of the rounds from this one on are kept."""
    changes: Mapping[PublicKey, Change] = field(default_factory=empty)
    """Why keys have their standing: the newest change of each, without its verdict."""
    invited: Mapping[PublicKey, str] = field(default_factory=empty)
    """The invitation by which each key was admitted first."""
    lists: tuple[BlobHash, ...] = ()
    """Names of the newest lists of standings, oldest first."""
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
    def signers(self) -> Signers:
        """Whose heads, admissions and manifests count."""
        position = self.position
        generation, closers = generation_of(position.epoch), frozenset(position.named)
        banned = position.standings.banned
        return Signers(self.charter.authority_key, position.successors, generation, closers, banned)

    @property
    def run_key(self) -> PublicKey:
        """The one that is in force."""
        return self.position.run_key(self.charter.authority_key)

    @property
    def round(self) -> Round:
        """The open round."""
        return self.position.round

    def standing(self, key: PublicKey) -> Standing:
        """What the log, or the spec, says of a key."""
        return self.position.standings.of(key, self.spec.trust)

    def vouches_for(self, key: PublicKey) -> bool:
        """Whether the maintainer trusts the key by name, in the spec or by an order; not for audited work,
        nor as an invited key whose ban was lifted.
        """
        change = self.changes.get(key)
        if change is None or change.cause == "lifted":
            named = key in self.spec.trust.vouched
        else:
            named = change.cause == "order"
        return named and self.standing(key).level == "trusted"

    @property
    def may_be_amended(self) -> bool:
        """Whether an amendment may follow: no round is being folded, no delegation takes effect first."""
        return self.tip.position == self.position and self.position.next_closers is None

    @property
    def is_over(self) -> bool:
        """Whether the run has ended: the open round is never closed."""
        return self.position.is_over(self.spec)

    @property
    def ended_after(self) -> int | None:
        """Rounds that are folded, where the run has ended; else None."""
        return self.position.step if self.is_over else None

    @property
    def lacks_last_checkpoint(self) -> bool:
        """Whether the run has ended, and no checkpoint has its last state."""
        return self.tip.position.is_over(self.spec) and self.tip.round not in self.checkpoints

    def has_lapsed(self, now: Millis) -> bool:
        """Whether the training time of the open round is over, and volunteers may still train in it."""
        return now > self.window.train_ends and not self.is_over

    @property
    def window(self) -> Window:
        """The times of the open round."""
        return Window(self.round, self.opens, self.spec.round)

    @property
    def newest_checkpoint(self) -> Signed[Manifest]:
        """Raises ValueError before the first checkpoint is written, and where a restart lost all."""
        return self.checkpoints[max(self.in_force(self.checkpoints))]

    @property
    def unpublished(self) -> list[int]:
        """Rounds of the checkpoints that wait for their evaluation, oldest first."""
        return self.in_force(self.checkpoints.keys() - self.published)

    @property
    def unevaluated(self) -> list[int]:
        """Rounds of the published checkpoints without a held-out loss, oldest first."""
        return [round for round in self.in_force(self.published) if self.held_out(round) is None]

    def in_force(self, rounds: Iterable[int]) -> list[int]:
        """Without those whose states a rollback made void, sorted."""
        return [round for round in sorted(rounds) if not self.position.is_void(round)]

    def held_out(self, round: int) -> HeldOut | None:
        """The held-out loss of a checkpoint that is kept; None where it has none."""
        return self.checkpoints[round].value.held_out

    def promotion(self, with_average: Mapping[int, HeldOut] = MappingProxyType({})) -> Promotion | None:
        """Which checkpoints are `main`, `best` and `latest`; None before the first is published.

        with_average: as if the mean of states up to a round were kept, too.
        """
        found = ((round, self.held_out(round)) for round in self.in_force(self.published))
        losses = {round: held_out.loss if held_out else None for round, held_out in found}
        kept = {round: self.averages[round].value.held_out for round in self.in_force(self.averages)}
        averages = {round: each.loss for round, each in {**kept, **with_average}.items() if each is not None}
        within = self.spec.checkpoint.promote_within
        return promote(losses, within, self.trend.good_until, averages) if losses else None

    def has_news(self, claim: Signed[JoinClaim]) -> bool:
        """Whether a claim has another name, consent to be named or instance than the peer's last one, or is
        the first by an invitation. Of each key one claim an hour is news, else a key could fill the disk.
        """
        known = self.claims.get(claim.signer)
        if known is None or self.is_first_use(claim.value):
            return True
        later = seconds_between(Millis(known.at), Millis(claim.value.at)) >= CLAIM_NEWS_SECONDS
        return later and _lasting(known) != _lasting(claim.value)

    def is_first_use(self, claim: JoinClaim) -> bool:
        """Whether an admission by this claim counts as a use of its invitation."""
        asked = bool(claim.invitation) and self.spec.trust.mode == "invite"
        return asked and PublicKey(claim.owner) not in self.invited

    def has_other_loss(self, evaluation: Signed[Evaluation]) -> bool:
        """Whether an evaluation is newer than its signer's last one, and has another loss."""
        new = evaluation.value
        known = self.evaluations.get(new.round, {}).get(evaluation.signer)
        return known is None or (known.value.at < new.at and known.value.loss != new.loss)

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
            successors=self.position.successors,
            standings=self.position.standings.name,
            ended_after=self.ended_after,
        )

    def next_replay_from(self) -> int:
        """Where `replay_from` moves to keep the contributions within the spec's limit."""
        sizes, limit = self.history.sizes(), self.spec.checkpoint.log_gigabytes * 1e9
        shown, latest = self.in_force(self.published), self.round - self.spec.checkpoint.rollback_rounds
        return replay_start(self.replay_from, sizes, shown, limit=limit, latest=latest)

    def outdated_averages(self) -> tuple[int, ...]:
        """Rounds of the means to drop: those that are neither `main` nor `best`.

        The last of them stays while the state of its round is among the newest: who downloads `main` when
        another one takes its place has until the next one.
        """
        promotion, kept = self.promotion(), self.in_force(self.averages)
        named = {round for round in kept if promotion is not None and promotion.names_average(round)}
        newest = self.in_force(self.checkpoints)[-self.spec.checkpoint.keep :]
        replaced = [round for round in kept if round in newest and round not in named]
        return tuple(round for round in self.averages if round not in {*named, *replaced[-1:]})

    def outdated_checkpoints(self) -> tuple[int, ...]:
        """Rounds of the checkpoints to drop: those that the spec does not keep and nothing needs.

        A proof of a mean may need the states that it is of.
        """
        named = (promotion.main, promotion.best) if (promotion := self.promotion()) else ()
        averages = self.averages.keys() - self.outdated_averages()
        averaged = (each.round for round in averages for each in self.averages[round].value.mean_of)
        asked = (*named, *averaged, *self.averaging, self.replay_from, self.evaluating)
        needed = {round for round in asked if round is not None}
        kept = self.in_force(self.checkpoints)
        void = self.checkpoints.keys() - {*kept, self.evaluating}
        return (*sorted(void), *outdated(kept, self.spec.checkpoint.keep, needed))

    @property
    def manifests(self) -> tuple[Signed[Manifest], ...]:
        """Of the checkpoints and means that are kept."""
        return (*self.checkpoints.values(), *self.averages.values())

    def names(self) -> set[BlobHash]:
        """Blobs of the checkpoints, means and contributions that are kept."""
        manifests = self.manifests
        files = (BlobHash(entry.hash) for signed in manifests for entry in signed.value.files)
        folded = (blob for blobs in self.history.kept for blob in blobs)
        accepted = (blob_name(commit.value) for commit in self.accepted.values())
        return {*files, *folded, *accepted, *self.lists, *(blob_hash(signed.wire) for signed in manifests)}


def _lasting(claim: JoinClaim) -> tuple[str, bool, str]:
    return claim.name, claim.credit, claim.instance
