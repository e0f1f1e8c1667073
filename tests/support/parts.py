"""Small values of the contract's types, for tests that need any."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from barnraise.contract.certificates import Certificate, certify
from barnraise.contract.charter import Charter
from barnraise.contract.invitation import make_invitation
from barnraise.contract.keys_in_force import KeysInForce
from barnraise.contract.log_entries import Close, Entry, NeedsNewer, Resume, Unfolded, vote_on
from barnraise.contract.manifest import FileEntry, Manifest, position_fields
from barnraise.contract.records import Admission, Commit, Head, JoinClaim, Presence
from barnraise.contract.run_keys import Signers
from barnraise.contract.sample_ranges import SampleRange
from barnraise.contract.spec import (
    AdamW,
    CodecSpec,
    DataSpec,
    Dense,
    Raw,
    RoundSpec,
    RunSpec,
    Schedule,
    Sgd,
    Sparse,
    TrainSpec,
)
from barnraise.contract.state import Array, Layout, TrainState
from barnraise.contract.state_index import index_of
from barnraise.contract.tip import Position
from barnraise.core.identity import Identity
from barnraise.core.ids import BlobHash, Millis, PublicKey, Round, RunId, blob_hash
from barnraise.core.signed import Signed, sign
from barnraise.fold.aggregators import Aggregate, Contribution
from barnraise.fold.codec import Decoder, encode_in_place
from barnraise.fold.log import Amendment, Link
from barnraise.network.key_access import KeyAccess
from barnraise.network.peer_guard import PeerGuard

RUN = RunId("barn")
AUTHORITY, ADA, BEN, STRANGER = (Identity.from_seed(bytes([n]) * 32) for n in range(1, 5))
SIGNERS = Signers(AUTHORITY.public)
"""Of a run without closers and successors."""
NOW = Millis(1_700_000_000_000)
HASH_A, HASH_B = "ab" * 32, "cd" * 32
INSTANCE = "5a" * 8
CERTIFICATE = Certificate(ballot=0, signatures=((AUTHORITY.public, "ef" * 64),))

CODECS: tuple[CodecSpec, ...] = (
    Dense(bits=2, block=8),
    Dense(bits=4, block=16),
    Dense(bits=8, block=32),
    Dense(bits=16),
    Raw(),
    Sparse(density=0.25, bits=2, block=64, ef_decay=1.0),
    Sparse(density=0.125, bits=4, block=64, ef_decay=1.0),
    Dense(bits=1, block=8),
)
LAYOUT = Layout((("a", (5, 7)), ("b", (3,)), ("c", (2, 2, 16))))
"""No tensor but the last fills its blocks."""


def keys(*closers: PublicKey) -> KeysInForce:
    """Of a run with these closers, and without successors."""
    return KeysInForce(AUTHORITY.public, Position(Round(0), BlobHash(""), closers=closers))


def guard(*closers: PublicKey) -> PeerGuard:
    """Of a node in such a run, which has seen no admission yet."""
    return PeerGuard(KeyAccess(keys(*closers)))


def codec_name(codec: CodecSpec) -> str:
    return "raw" if isinstance(codec, Raw) else f"{codec.kind}{codec.bits}"


def tensors(seed: int, layout: Layout = LAYOUT, scale: float = 1.0) -> dict[str, Array]:
    random = np.random.default_rng(seed)
    return {name: (random.standard_normal(shape) * scale).astype(np.float32) for name, shape in layout}


def integers(seed: int, divisor: int, layout: Layout) -> dict[str, Array]:
    """Integers in -500 .. 500 by a multiplicative generator, over `divisor`: rounded once, so the same
    everywhere."""
    found: dict[str, Array] = {}
    number = seed + 1
    for name, shape in layout:
        values = []
        for _ in range(math.prod(shape)):
            number = number * 48271 % (2**31 - 1)  # Park & Miller 1988
            values.append(number % 1001 - 500)
        found[name] = np.array(values, np.float32).reshape(shape) / np.float32(divisor)
    return found


def state_blobs(state: TrainState) -> dict[BlobHash, bytes]:
    """The blobs by which a state is fetched: its index, and each tensor."""
    groups = {"params": state.params, **state.buffers}
    data = {
        f"{group}/{name}": (array.shape, array.tobytes())
        for group, arrays in groups.items()
        for name, array in arrays.items()
    }
    index = index_of(state.step, ((name, shape, blob_hash(found)) for name, (shape, found) in data.items()))
    return {blob_hash(index): index, **{blob_hash(found): found for _, found in data.values()}}


def copied(arrays: dict[str, Array]) -> dict[str, Array]:
    return {name: array.copy() for name, array in arrays.items()}


def run_spec(
    codec: CodecSpec | None = None, outer: Sgd | AdamW | None = None, aggregate: Aggregate = "mean"
) -> RunSpec:
    outer, round = outer or Sgd(), RoundSpec(aggregate="auto" if aggregate == "mean" else aggregate)
    method = TrainSpec(method="gradient" if isinstance(outer, AdamW) else "diloco")
    data = DataSpec(source="x")
    return RunSpec(name=RUN, data=data, train=method, outer=outer, codec=codec or Raw(), round=round)


def scheduled(spec: RunSpec, schedule: Schedule) -> RunSpec:
    """The run with a schedule, and with the method `gradient`, whose fold it changes."""
    train = spec.train.model_copy(update={"schedule": schedule, "method": "gradient"})
    return spec.model_copy(update={"train": train})


def contribution(
    update: dict[str, Array], tokens: int, codec: CodecSpec, layout: Layout = LAYOUT
) -> Contribution:
    """`update` is encoded from a copy."""
    return Contribution.unlimited(
        Decoder(encode_in_place(codec, copied(update), layout), codec, layout), tokens
    )


def charter(spec: RunSpec, genesis: TrainState) -> Charter:
    return Charter(
        spec=spec,
        authority=AUTHORITY.public,
        model_files=HASH_A,
        layout=genesis.layout.digest(),
        genesis=genesis.hash(),
        data_index=HASH_B,
    )


def admission(peer: Identity, *, run: str = RUN, by: Identity = AUTHORITY, expires: int = NOW + 1000) -> str:
    return sign(by, Admission(run=run, peer=peer.public, expires=expires)).text


def invitation(
    uses: int = 50,
    expires: int = NOW + 10**12,
    *,
    by: Identity = AUTHORITY,
    run: str = RUN,
    id: str = "1f" * 8,
) -> str:
    """The text of an invitation."""
    return str(make_invitation(by, RunId(run), id, uses, Millis(expires)))


def claim(owner: Identity = ADA, **other: object) -> Signed[JoinClaim]:
    """Of a volunteer with an invitation."""
    fields: dict[str, object] = {
        "run": RUN, "owner": owner.public, "instance": INSTANCE, "name": "ada", "credit": False,
        "invitation": invitation(), "at": NOW,
    }  # fmt: skip
    return sign(owner, JoinClaim.model_validate(fields | other))


def commit(owner: Identity, *, round: int = 0, base: str = HASH_A, run: str = RUN, **other: object) -> Commit:
    fields: dict[str, object] = {
        "run": run,
        "round": round,
        "base_state": base,
        "owner": owner.public,
        "admission": admission(owner),
        "blob": HASH_B,
        "size": 100,
        "pieces": HASH_A,
        "tokens": 64,
        "samples": 4,
        "loss": 2.5,
    }
    fields |= other
    drawn = SampleRange(round=round, start=0, count=int(str(fields["samples"])))
    return Commit.model_validate({"ranges": (drawn,)} | fields)


def presence(owner: Identity = ADA, **other: object) -> Presence:
    fields: dict[str, object] = {
        "run": RUN, "owner": owner.public, "instance": INSTANCE, "admission": admission(owner), "name": "ada",
        "round": 2, "state": HASH_A, "tokens": 5, "tokens_per_second": 1.5, "doing": "training", "parts": 1,
        "keeps": 2, "at": NOW,
    }  # fmt: skip
    return Presence.model_validate(fields | other)


def head(**other: object) -> Head:
    fields: dict[str, object] = {
        "run": RUN, "round": 3, "epoch": 0, "height": 3, "entry": HASH_A, "certificate": CERTIFICATE,
        "state": HASH_B, "opens": NOW, "turns": 1, "volunteers": 2,
        "tokens": 0, "checkpoint": HASH_B, "checkpoint_round": 2, "at": NOW, "bootstrap": (),
    }  # fmt: skip
    return Head.model_validate(fields | other)


def close(commits: Sequence[Signed[Commit]], *, previous: str, **other: object) -> Close:
    """The close of the round and state that the first commit names."""
    first = commits[0].value
    fields: dict[str, object] = {
        "run": first.run,
        "epoch": 0,
        "height": first.round,
        "round": first.round,
        "previous": previous,
        "certificate": None,
        "base_state": first.base_state,
        "commits": tuple(entry.text for entry in commits),
        "weights": tuple(entry.value.tokens for entry in commits),
        "at": NOW,
        "reason": "all contributed",
    }
    return Close.model_validate(fields | other)


def votes(entry: Entry | NeedsNewer, *by: Identity, ballot: int = 0) -> Certificate:
    """A certificate of `entry`; of the run key where nobody is named."""
    return certify(by or (AUTHORITY,), vote_on(entry, ballot))


def link(commits: Sequence[Signed[Commit]], *, previous: str, **other: object) -> Link:
    """As `close`, certified by the run key."""
    entry = close(commits, previous=previous, **other)
    return Link(entry, tuple(commit.value for commit in commits), votes(entry))


def amendment(
    kind: type[Unfolded],
    position: Position,
    by: Identity = AUTHORITY,
    **other: object,
) -> Amendment:
    """An entry that folds nothing, certified by the run key or another. A resume begins the next epoch."""
    fields: dict[str, object] = {
        "run": RUN, "epoch": position.epoch + (kind is Resume), "height": position.height,
        "round": position.round, "previous": position.previous, "certificate": None, "at": NOW,
    }  # fmt: skip
    entry = kind.model_validate(fields | other)
    return Amendment(entry, votes(entry, by))


def amended(entry: Unfolded) -> Amendment:
    """An entry, certified by the run key."""
    return Amendment(entry, votes(entry))


def manifest(position: Position, **other: object) -> Manifest:
    """Of a checkpoint at a place of the log."""
    fields: dict[str, object] = {
        "form": "trained", "run": RUN, "state": HASH_A, "charter": HASH_B, "tokens": 1, "held_out": None,
        "files": (FileEntry(name="a", hash=HASH_A, size=1),), **position_fields(position),
    }  # fmt: skip
    return Manifest.model_validate(fields | other)


def state(seed: int = 0, step: int = 0) -> TrainState:
    return TrainState(tensors(seed), {}, Round(step))
