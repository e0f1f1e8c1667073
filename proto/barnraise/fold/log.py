"""The log: a chain of closes. A follower checks each link and folds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from barnraise.contract.charter import Charter
from barnraise.contract.records import Close, Commit, open_close
from barnraise.contract.state import Layout, TrainState
from barnraise.contract.tip import Tip
from barnraise.core.errors import MalformedBlob, StateError
from barnraise.core.ids import BlobHash, Round, blob_hash, short
from barnraise.fold.codec import Decoder
from barnraise.fold.fold import Contribution, fold


@dataclass(frozen=True)
class Link:
    """A close with valid signatures, and its commits."""

    close: Close
    commits: tuple[Commit, ...]
    hash: BlobHash


def check_link(wire: bytes, charter: Charter, round: Round) -> Link:
    """Raises MalformedRecord or BadSignature unless `wire` is the authority's close of `round`."""
    signed, commits = open_close(wire, run=charter.run, authority=charter.authority_key, round=round)
    return Link(signed.value, commits, blob_hash(wire))


def check_next(tip: Tip, link: Link) -> None:
    """Raises StateError unless `link` continues the chain from `tip` and starts from its state."""
    close = link.close
    if (close.round, close.previous) != (tip.round, tip.previous):
        raise StateError(
            f"the close of round {close.round} does not continue the log at round {tip.round}",
            fix="The state is dropped and read from the newest checkpoint.",
        )
    if close.base_state != tip.state:
        raise StateError(
            f"round {tip.round} starts from state {short(close.base_state)}, ours is {short(tip.state)}",
            fix="The state is dropped and read from the newest checkpoint.",
        )


def is_named(commit: Commit, blob: bytes | memoryview) -> bool:
    """Whether `blob` has the size and the hash in `commit`."""
    return len(blob) == commit.size and blob_hash(blob) == commit.blob


def check_blob(commit: Commit, blob: bytes | memoryview, charter: Charter, layout: Layout) -> Contribution:
    """Raises MalformedBlob unless `blob` has the commit's hash and the codec's format."""
    if not is_named(commit, blob):
        raise MalformedBlob(
            f"the blob of {short(commit.owner)} is not the one that its commit names",
            fix="It is refused; another holder is tried.",
        )
    return Contribution(Decoder(blob, charter.spec.codec, layout), commit.tokens)


def advance(
    tip: Tip, state: TrainState, link: Link, blobs: Sequence[bytes | memoryview], charter: Charter
) -> tuple[Tip, TrainState]:
    """Fold one link. blobs: in the order of the close's commits. Raises StateError, MalformedBlob."""
    check_next(tip, link)
    layout = state.layout
    contributions = [
        check_blob(commit, blob, charter, layout) for commit, blob in zip(link.commits, blobs, strict=True)
    ]
    folded = fold(state, contributions, charter.spec)
    return Tip(Round(tip.round + 1), link.hash, folded.hash()), folded
