"""The log: a chain of certified entries. A follower checks each of them and folds the closes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from barnraise.contract.certificates import Authorities, Certificate, check_certificate
from barnraise.contract.charter import Charter
from barnraise.contract.close_rules import check_close, check_progress, open_commits
from barnraise.contract.double_signing import Certified
from barnraise.contract.log_entries import (
    Close,
    Decay,
    Entry,
    NeedsNewer,
    Resume,
    Rollback,
    Succession,
    Unfolded,
    common_fields,
    parse_entry,
    vote_on,
)
from barnraise.contract.records import Commit
from barnraise.contract.run_keys import generation_of
from barnraise.contract.spec import RunSpec
from barnraise.contract.state import Layout, TrainState
from barnraise.contract.tip import Position, Tip, check_decay, check_rollback, check_succession
from barnraise.contract.weights import weigh_commits
from barnraise.core.errors import MalformedBlob, MalformedRecord, NewerVersion, StateError
from barnraise.core.ids import BlobHash, PublicKey, blob_hash, short
from barnraise.fold.aggregators import Contribution
from barnraise.fold.codec import Decoder
from barnraise.fold.fold import fold


@dataclass(frozen=True)
class Link:
    """A close and its commits, whose signatures are checked."""

    entry: Close
    commits: tuple[Commit, ...]
    certificate: Certificate

    @property
    def close(self) -> Close:
        """The entry."""
        return self.entry

    @property
    def hash(self) -> BlobHash:
        """The close's name."""
        return self.entry.name


@dataclass(frozen=True)
class Amendment:
    """An entry that folds nothing: it changes who certifies or takes part, or where the run goes on."""

    entry: Unfolded
    certificate: Certificate

    @property
    def hash(self) -> BlobHash:
        """The entry's name."""
        return self.entry.name


@dataclass(frozen=True)
class Unreadable:
    """An entry of a newer version."""

    entry: NeedsNewer
    certificate: Certificate


Step = Link | Amendment


def read_step(payload: bytes, certificate: Certificate, charter: Charter) -> Step | Unreadable:
    """An entry of the run, and its commits. `check_step` checks its certificate and its place.

    Raises MalformedRecord, BadSignature.
    """
    entry = parse_entry(payload)
    run = common_fields(entry).run
    if run != charter.run:
        raise MalformedRecord(
            f"an entry of the run {run} where {charter.run} was expected",
            fix="It is dropped. Check that the invite is for this run.",
        )
    if isinstance(entry, NeedsNewer):
        return Unreadable(entry, certificate)
    if isinstance(entry, Close):
        return Link(entry, open_commits(entry), certificate)
    return Amendment(entry, certificate)


def check_step(position: Position, step: Step | Unreadable, charter: Charter) -> Step:
    """The step, whose certificate and place are checked.

    Raises BadSignature; StateError where it is certified and does not continue the log from `position`;
    NewerVersion where it is certified and this version cannot read it.
    """
    check_certificate(certified(step).vote, step.certificate, _authorities(position, step, charter))
    if isinstance(step, Unreadable):
        raise NewerVersion(f"the run's log at round {common_fields(step.entry).round}", step.entry.release)
    check_follows(position, step.entry, charter.spec)
    if isinstance(step, Link):
        check_close(step.close, step.commits, position.standings, charter.spec)
        check_progress(step.close, step.commits, position.standings, charter.spec, position.progress)
    if isinstance(step.entry, Succession):
        check_succession(position, step.entry, charter.authority_key)
    if isinstance(step.entry, Rollback):
        check_rollback(position, step.entry)
    if isinstance(step.entry, Decay):
        check_decay(position, step.entry, charter.spec)
    return step


def check_follows(position: Position, entry: Entry, spec: RunSpec) -> None:
    """Raises StateError unless `entry` continues the log from `position`."""
    place = (entry.height, entry.round, entry.previous)
    later = entry.epoch > position.epoch if isinstance(entry, Resume) else entry.epoch == position.epoch
    if place != (position.height, position.round, position.previous) or not later:
        raise StateError(
            f"the {entry.kind} of round {entry.round} does not continue the log at round {position.round}",
            fix="The state is dropped and read from the newest checkpoint.",
        )
    if isinstance(entry, Close) and position.halted:
        raise StateError(
            f"round {entry.round} is closed while the run is halted",
            fix="It is not folded. Ask the maintainer.",
        )
    if isinstance(entry, Close) and position.is_over(spec):
        raise StateError(
            f"round {entry.round} is closed after the run's end", fix="It is not folded. Ask the maintainer."
        )
    if isinstance(entry, Close | Resume) and not position.is_named_by(entry.standings, entry.void):
        raise StateError(
            f"the {entry.kind} of round {entry.round} names other standings or void rounds than the log has",
            fix="The state is dropped and read from the newest checkpoint.",
        )
    if isinstance(entry, Resume) and entry.progress != position.progress:
        raise StateError(
            f"the resume of round {entry.round} says another progress of the run than the log has",
            fix="The state is dropped and read from the newest checkpoint.",
        )


def check_base(tip: Tip, link: Link) -> None:
    """Raises StateError unless the close starts from the tip's state."""
    if link.close.base_state != tip.state:
        raise StateError(
            f"round {tip.round} starts from state {short(link.close.base_state)}, ours is {short(tip.state)}",
            fix="The state is dropped and read from the newest checkpoint.",
        )


def is_named(commit: Commit, blob: bytes | memoryview) -> bool:
    """Whether `blob` has the size and the hash in `commit`."""
    return len(blob) == commit.size and blob_hash(blob) == commit.blob


def check_blob(commit: Commit, blob: bytes | memoryview, charter: Charter, layout: Layout) -> Decoder:
    """Raises MalformedBlob unless `blob` has the commit's hash and the codec's format."""
    if not is_named(commit, blob):
        raise MalformedBlob(
            f"the blob of {short(commit.owner)} is not the one that its commit names",
            fix="It is refused; another holder is tried.",
        )
    return Decoder(blob, charter.spec.codec, layout)


def advance(
    tip: Tip, state: TrainState, link: Link, blobs: Sequence[bytes | memoryview], charter: Charter
) -> tuple[Tip, TrainState]:
    """Fold one close, which is checked first. blobs: in the order of its commits.

    Raises BadSignature, StateError, MalformedBlob.
    """
    check_step(tip.position, link, charter)
    check_base(tip, link)
    layout = state.layout
    decoders = [
        check_blob(commit, blob, charter, layout) for commit, blob in zip(link.commits, blobs, strict=True)
    ]
    folded = fold_at(tip.position, state, link, decoders, charter.spec)
    return Tip(tip.position.after(link.close), folded.hash()), folded


def fold_at(
    position: Position, state: TrainState, link: Link, decoders: Sequence[Decoder], spec: RunSpec
) -> TrainState:
    """Fold a close that follows `position`. decoders: in the close's order."""
    # With `diloco` it is the inner rate that the schedule changes.
    factor = position.rate_factor(spec) if spec.train.method == "gradient" else 1.0
    return fold(state, contributions_of(position, link, decoders, spec), spec, factor)


def contributions_of(
    position: Position, link: Link, decoders: Sequence[Decoder], spec: RunSpec
) -> list[Contribution]:
    """A round as it is folded, with the weights that follow from the log. decoders: in the close's order."""
    weighed = weigh_commits(link.commits, position.standings, spec.trust)
    return [
        Contribution(decoder, each.weight, each.tokens, each.trusted)
        for decoder, each in zip(decoders, weighed, strict=True)
    ]


def amended(tip: Tip, amendment: Amendment, charter: Charter) -> Tip:
    """The tip after an entry that folds nothing, which is checked first: the state stays.

    Raises BadSignature; StateError, also at a rollback to another state than the tip's.
    """
    entry = check_step(tip.position, amendment, charter).entry
    if isinstance(entry, Rollback) and entry.state != tip.state:
        raise StateError(
            f"the run went back to state {short(entry.state)}, of round {entry.to}: ours is"
            f" {short(tip.state)}",
            fix="The state is dropped and read from the newest checkpoint.",
        )
    return Tip(tip.position.after(entry), tip.state)


def skipped(tip: Tip, step: Step, charter: Charter) -> Tip:
    """The tip after a step that a later rollback made void (`Position.has_effect`): the state stays.

    Raises BadSignature, StateError.
    """
    return Tip(tip.position.after(check_step(tip.position, step, charter).entry), tip.state)


def in_effect(position: Position, steps: Sequence[Step]) -> list[Step]:
    """Those of some steps that no rollback among them made void. position: before them."""
    end = place_after(position, steps)
    return [step for step in steps if end.has_effect(step.entry)]


def place_after(position: Position, steps: Iterable[Step]) -> Position:
    """The place after some steps, which are checked."""
    for step in steps:
        position = position.after(step.entry)
    return position


def certified(step: Step | Unreadable) -> Certified:
    """What certifies a step: half of a proof where another one contradicts it."""
    certificate = step.certificate
    return Certified(vote=vote_on(step.entry, certificate.ballot), certificate=certificate)


def _authorities(position: Position, step: Step | Unreadable, charter: Charter) -> Authorities:
    first = charter.authority_key
    match step:
        case Amendment(entry=Resume(epoch=epoch)):
            return position.resumers(epoch, first)
        case Unreadable(certificate=certificate):
            voters = tuple(PublicKey(key) for key, _ in certificate.signatures)
            current = position.run_keys(first)[generation_of(position.epoch) :]
            # It may be of a kind that the run key certifies.
            alone = len(voters) == 1 and voters[0] in current
            return Authorities(voters) if alone else position.authorities(first)
        case _:
            return position.authorities(first)
