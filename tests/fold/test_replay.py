"""Replaying a log gives the pinned states, or the first difference and its cause."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from barnraise.contract.archive import contribution_path, entry_path
from barnraise.contract.certificates import Certificate
from barnraise.contract.charter import Charter
from barnraise.contract.log_entries import certificate_in
from barnraise.contract.manifest import FileEntry, Manifest, position_fields
from barnraise.contract.records import Commit
from barnraise.contract.state import TrainState
from barnraise.contract.tip import Position, Tip
from barnraise.core.identity import Identity
from barnraise.core.ids import BlobHash, Round, blob_hash
from barnraise.core.signed import Signed, open_signed, sign
from barnraise.fold.codec import encode_in_place
from barnraise.fold.log import Link, Step, Unreadable
from barnraise.fold.replay import Cause, Difference, Replay, RoundReader
from tests.support import parts
from tests.support.golden_log import (
    KINDS,
    LAYOUT,
    ROUNDS,
    THIRDS,
    Log,
    build,
    come_to,
    genesis,
    read,
    spec_of,
    write,
)
from tests.support.parts import ADA, AUTHORITY, BEN, HASH_A, STRANGER

PINNED: dict[str, list[str]] = json.loads(Path(__file__).with_name("golden_log.json").read_text())
"""States 1 to ROUNDS of each golden log."""
FIRST = "55f35b07241303a45a99b82f1c2833ee358f08aa2fa3c6bcdd8ec5d3bd54b305"
"""state[0] of all of them."""
KIND = "nesterov dense4"
SPEC = spec_of(KIND)
LOG = build(SPEC)
CHARTER = open_signed(Charter, LOG.charter, signer=AUTHORITY.public).value
READER = RoundReader(CHARTER, LAYOUT)


def begin() -> Replay:
    replay = Replay.from_base(CHARTER, genesis(SPEC))
    assert isinstance(replay, Replay)
    return replay


def outcome(log: Log, rounds: int = ROUNDS) -> Replay | Difference:
    """The first rounds of a log, replayed up to the first difference."""
    replay = begin()
    for height, blobs in enumerate(log.blobs[:rounds]):
        opened = opened_entry(log, height)
        link = opened if isinstance(opened, Difference) else replay.check(opened)
        if isinstance(link, Difference):
            return link
        assert isinstance(link, Link)
        found = READER.read(link, blobs)
        if isinstance(found, Difference):
            return found
        folded = replay.fold(link, found)
        if isinstance(folded, Difference):
            return folded
        replay = folded
    return replay


def opened_entry(log: Log, height: int) -> Step | Unreadable | Difference:
    """The certificate of an entry of the golden log stays that of the entry that it had."""
    certificate = LOG.certificate if height == ROUNDS - 1 else certificate_in(LOG.closes[height + 1])
    certificate = log.votes.get(height, certificate)
    assert certificate is not None
    return READER.open(entry_path(0, height), log.closes[height], certificate)


def replayed(rounds: int = ROUNDS) -> Replay:
    replay = outcome(LOG, rounds)
    assert isinstance(replay, Replay)
    return replay


def differs(found: object) -> Difference:
    assert isinstance(found, Difference), found
    return found


def with_close(round: int, payload: bytes, votes: Certificate | None = None) -> Log:
    """votes: the certificate of the other close; None: that of the one which it replaces."""
    closes = [payload if r == round else own for r, own in enumerate(LOG.closes)]
    return replace(LOG, closes=closes, votes={} if votes is None else {round: votes})


def with_link(link: Link) -> Log:
    return with_close(link.close.round, link.close.payload, link.certificate)


def with_blob(round: int, place: int, blob: bytes) -> Log:
    blobs = [list(each) for each in LOG.blobs]
    blobs[round][place] = blob
    return replace(LOG, blobs=blobs)


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def manifest(replay: Replay, **other: object) -> Manifest:
    fields = {
        "form": "trained", "run": parts.RUN, "state": replay.tip.state, "charter": CHARTER.digest,
        "tokens": replay.tokens, "held_out": None, **position_fields(replay.tip.position),
        "files": (FileEntry(name="adapter_model.safetensors", hash=HASH_A, size=1),),
    }  # fmt: skip
    return Manifest.model_validate(fields | other)


@pytest.mark.parametrize("kind", KINDS)
def test_a_log_replays_to_the_pinned_states(kind: str) -> None:
    log = build(spec_of(kind))
    assert come_to(log) == [FIRST, *PINNED[kind], blob_hash(log.closes[-1])]


def test_the_pinned_states_belong_to_the_pinned_logs() -> None:
    assert PINNED.keys() == KINDS.keys()
    states = [state for pinned in PINNED.values() for state in pinned]
    assert len(set(states)) == len(states) == ROUNDS * len(KINDS)


def test_a_log_is_read_from_its_files(tmp_path: Path) -> None:
    write(LOG, tmp_path)
    assert come_to(read(tmp_path)) == come_to(LOG)


def test_a_replay_counts_rounds_contributions_and_owners() -> None:
    replay = replayed()
    assert (replay.rounds, replay.contributions, replay.tokens) == (3, 6, 3 * (100 + 137))
    assert replay.owners == {ADA.public, BEN.public}
    assert replay.compare(manifest(replay)) is None


def test_another_first_state_is_blamed_on_the_base_model() -> None:
    found = differs(Replay.from_base(CHARTER, parts.state()))
    assert (found.what, found.expected, found.cause) == ("state", FIRST, Cause.BASE)
    assert found.found == parts.state().hash()


def test_a_replay_continues_from_a_checkpoint() -> None:
    begun = replayed(2)
    replay = Replay.from_checkpoint(CHARTER, manifest(begun), begun.state)
    assert isinstance(replay, Replay)
    link = opened_entry(LOG, 2)
    assert isinstance(link, Link)
    contributions = READER.read(link, LOG.blobs[2])
    assert not isinstance(contributions, Difference)
    after = replay.fold(link, contributions)
    assert isinstance(after, Replay)
    assert after.tip == replayed().tip
    assert (after.rounds, after.tokens) == (1, replayed().tokens)


def test_a_checkpoint_of_round_0_must_be_the_first_state_of_the_charter() -> None:
    honest = manifest(begin())
    assert isinstance(Replay.from_checkpoint(CHARTER, honest, genesis(SPEC)), Replay)
    other = TrainState({name: array + 1 for name, array in genesis(SPEC).params.items()})
    found = differs(Replay.from_checkpoint(CHARTER, manifest(begin(), state=other.hash()), other))
    assert (found.expected, found.cause) == (FIRST, Cause.COORDINATOR)


@pytest.mark.parametrize("place", [0, 40, 100, 900, -1])
def test_a_flipped_byte_of_a_close_is_blamed_on_the_source(place: int) -> None:
    payload = LOG.closes[1]
    found = differs(outcome(with_close(1, flipped(payload, place % len(payload)))))
    assert (found.what, found.where, found.cause) == ("entry", entry_path(0, 1), Cause.SOURCE)


def test_a_close_that_another_key_certified_is_blamed_on_the_source() -> None:
    other = parts.close(commits_of(1), previous=replayed(1).tip.previous)
    found = differs(outcome(with_close(1, other.payload, parts.votes(other, STRANGER))))
    assert (found.what, found.where, found.cause) == ("entry", entry_path(0, 1), Cause.SOURCE)
    assert STRANGER.public[:8] in found.found


def test_a_close_of_another_round_is_blamed_on_the_source() -> None:
    found = differs(outcome(with_close(1, LOG.closes[2])))
    assert (found.where, found.cause) == (entry_path(0, 1), Cause.SOURCE)


def commits_of(round: int) -> list[Signed[Commit]]:
    """Commits of two volunteers that fit `round`, for the blobs of the log."""
    base = replayed(round).tip.state
    return [
        signed_commit(owner, round, base, blob)
        for owner, blob in zip((ADA, BEN), LOG.blobs[round], strict=True)
    ]


def signed_commit(owner: Identity, round: int, base: str, blob: bytes, **other: object) -> Signed[Commit]:
    named = {"blob": blob_hash(blob), "size": len(blob)} | other
    return sign(owner, parts.commit(owner, round=round, base=base).model_copy(update=named))


def test_a_signed_close_that_does_not_follow_is_blamed_on_the_coordinator() -> None:
    """As when two logs were signed, or a close is missing."""
    found = differs(outcome(with_link(parts.link(commits_of(1), previous=HASH_A))))
    assert (found.what, found.where, found.cause) == ("entry", entry_path(0, 1), Cause.COORDINATOR)
    assert replayed(1).tip.previous in found.expected


def test_a_signed_close_from_another_state_names_the_previous_round() -> None:
    """The coordinator's fold of round 0 differs from the log."""
    commits = [signed_commit(ADA, 1, HASH_A, LOG.blobs[1][0])]
    link = parts.link(commits, previous=replayed(1).tip.previous)
    log = replace(with_link(link), blobs=[LOG.blobs[0], LOG.blobs[1][:1]])
    found = differs(outcome(log, 2))
    assert (found.what, found.where, found.cause) == ("state", "state[1]", Cause.COORDINATOR)
    assert HASH_A in found.expected
    assert replayed(1).tip.state in found.found
    assert "folding round 0" in found.found


@pytest.mark.parametrize(
    "spoil",
    [lambda b: b[:-1], lambda b: b + b"\0", lambda b: flipped(b, 60), lambda _: b""],
    ids=["short", "long", "flipped", "empty"],
)
def test_another_contribution_is_blamed_on_the_source(
    spoil: Callable[[bytes], bytes],
) -> None:
    blob = LOG.blobs[1][1]
    found = differs(outcome(with_blob(1, 1, spoil(blob))))
    assert (found.what, found.cause) == ("contribution", Cause.SOURCE)
    assert found.where == contribution_path(blob_hash(blob))
    assert BEN.public[:8] in found.expected
    assert "round 1" in found.expected


def test_a_malformed_contribution_in_a_close_is_blamed_on_the_coordinator() -> None:
    noise = bytes(len(LOG.blobs[0][0]))
    link = parts.link([signed_commit(ADA, 0, FIRST, noise)], previous=begin().tip.previous)
    found = differs(outcome(replace(with_link(link), blobs=[[noise]])))
    assert (found.what, found.where) == ("contribution", contribution_path(blob_hash(noise)))
    assert found.cause is Cause.COORDINATOR


def test_an_impossible_size_is_refused_before_anything_is_fetched() -> None:
    commit = signed_commit(ADA, 0, FIRST, LOG.blobs[0][0], size=10**12)
    log = with_link(parts.link([commit], previous=begin().tip.previous))
    found = differs(opened_entry(log, 0))
    assert (found.what, found.cause) == ("contribution", Cause.COORDINATOR)
    assert "1000000000000 bytes" in found.found


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ({"tokens": 5}, "tokens"),
        ({"charter": HASH_A}, "charter"),
        ({"epoch": 1}, "epoch"),
        ({"height": 9}, "height"),
        ({"previous": HASH_A}, "head of the log"),
        ({"form": "merged"}, "form"),
        ({"round": 7}, "round"),
    ],
)
def test_a_manifest_that_contradicts_the_log_is_blamed_on_the_coordinator(
    other: dict[str, object], expected: str
) -> None:
    found = differs(replayed().compare(manifest(replayed(), **other)))
    assert (found.what, found.cause) == ("manifest", Cause.COORDINATOR)
    assert found.expected.startswith(expected)
    assert found.where.endswith("/manifest.bin")


def test_a_checkpoint_of_another_state_is_blamed_on_the_coordinator() -> None:
    found = differs(replayed().compare(manifest(replayed(), state=HASH_A)))
    assert (found.what, found.where, found.cause) == ("state", "state[3]", Cause.COORDINATOR)
    assert found.expected.startswith(HASH_A)
    assert found.found.startswith(PINNED[KIND][-1])


def test_closes_are_checked_without_the_state_before() -> None:
    """A later round is opened and read before the earlier ones are folded."""
    link = opened_entry(LOG, 2)
    assert isinstance(link, Link)
    assert not isinstance(READER.read(link, LOG.blobs[2]), Difference)
    too_early = differs(begin().check(link))
    assert (too_early.what, too_early.cause) == ("entry", Cause.COORDINATOR)
    assert begin().tip == Tip(Position(Round(0), BlobHash(CHARTER.digest)), genesis(SPEC).hash())


def test_an_update_is_encoded_from_a_copy() -> None:
    """The golden log's blobs are what the codec writes now."""
    update = parts.integers(0, THIRDS, LAYOUT)
    assert bytes(encode_in_place(SPEC.codec, update, LAYOUT)) == LOG.blobs[0][0]
