"""Whole rounds, then a restart, while admitted peers send fuzzed records and blobs that they sign correctly.

Every field of a heartbeat and of a commit takes any value, every blob is damaged in any way or described by a
false piece list, and blob hashes are copied from others and from the run's own files. Each round folds what
the honest peer sent, the log can be followed and restored, and no accepted blob is lost.
"""

from __future__ import annotations

import functools
import json
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from barnraise.contract.certificates import Certificate
from barnraise.contract.log_entries import certificate_in
from barnraise.contract.pieces import pieces_hash
from barnraise.contract.records import Commit, Presence
from barnraise.contract.tip import first_position
from barnraise.core.identity import Identity
from barnraise.core.ids import BlobHash, PublicKey, blob_hash
from barnraise.fold.log import Link, check_step, read_step
from coordinator.store.run_store import RunStore
from tests.support import parts, virtual_time
from tests.support.attacked import Attacked, admission, wire_of
from tests.support.coordinators import api_of, contribution, opened_store, reopened
from tests.support.transfers import Net, holder, honest

HONEST = parts.ADA
HOSTILE = [parts.BEN, parts.STRANGER, Identity.from_seed(bytes([77]) * 32)]
ROUNDS = 2

INTEGERS = st.sampled_from(
    [0, 1, 2, 3, 63, 64, 2**31, 2**40 - 1, 2**40, 2**53 - 1, 2**53, 2**63, 10**30, -1]
) | st.integers(-(2**70), 2**70)
FLOATS = st.sampled_from([0.0, -0.0, 1e-320, 1e9, 1e16, 1e308, -1.0, 100.0]) | st.floats()
TEXTS = st.text(max_size=50) | st.sampled_from(
    ["", "training", "leaving", "late", "0" * 64, "f" * 64, "\x1b[2J"]
)
ANY = st.recursive(
    st.none() | st.booleans() | INTEGERS | FLOATS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=4,
)
PLAUSIBLE: dict[type, st.SearchStrategy[Any]] = {
    bool: st.booleans(), int: INTEGERS, float: FLOATS | INTEGERS, str: TEXTS,
}  # fmt: skip
COVERED: Counter[str] = Counter()
"""What happened in all examples."""


@dataclass
class Fuzz:
    """Draws what one hostile peer sends to the open round."""

    data: st.DataObject
    attacked: Attacked
    owner: Identity
    names: list[str] = field(default_factory=list)
    """Hashes that it may copy."""

    def draw(self, strategy: st.SearchStrategy[Any]) -> Any:
        return self.data.draw(strategy)

    def payload(self, value: Commit | Presence) -> bytes:
        """The record with some fields changed, added or left out, mostly in canonical spelling."""
        fields = json.loads(value.payload)
        for name in self.draw(st.lists(st.sampled_from(sorted(fields)), max_size=3)):
            known = fields.get(name)
            choices = [PLAUSIBLE.get(type(known), ANY), ANY]
            if isinstance(known, str) and len(known) == 64:
                choices.append(st.sampled_from(self.names))
            fields[name] = self.draw(st.one_of(choices))
        if self.draw(st.integers(0, 9)) == 0:
            fields[self.draw(TEXTS)] = self.draw(ANY)
        if self.draw(st.integers(0, 9)) == 0:
            fields.pop(self.draw(st.sampled_from(sorted(fields))), None)
        space = self.draw(st.sampled_from([(",", ":")] * 9 + [(", ", ": ")]))
        return json.dumps(fields, separators=space, ensure_ascii=self.draw(st.booleans())).encode(
            errors="surrogatepass"
        )

    def blob(self) -> bytes:
        """A contribution, in part damaged."""
        good = contribution(self.attacked.store, self.owner, self.draw(st.integers(3, 9)))[1]
        kind = self.draw(
            st.sampled_from(["good", "good", "flipped", "header", "cut", "longer", "other", "nan"])
        )
        place = self.draw(st.integers(0, len(good) - 5))
        match kind:
            case "flipped":
                changed = bytearray(good)
                changed[place] ^= 1 << self.draw(st.integers(0, 7))
                return bytes(changed)
            case "header":
                return self.draw(st.binary(min_size=16, max_size=16)) + good[16:]
            case "cut":
                return good[: place + 1]
            case "longer":
                return good + self.draw(st.binary(min_size=1, max_size=9))
            case "other":
                return bytes(len(good))
            case "nan":
                return good[:place] + b"\xff\xff\xff\x7f" + good[place + 4 :]
        return good

    def send(self) -> None:
        """A heartbeat and some commits, and what it serves for them."""
        attacked, run = self.attacked, self.attacked.store.snapshot
        beat = parts.presence(
            self.owner, admission=admission(self.owner), round=run.round, state=run.tip.state,
            at=attacked.swarm.now,
        )  # fmt: skip
        self._note(
            "heartbeat", attacked.swarm.receive(b"P" + wire_of(self.owner, Presence, self.payload(beat)))
        )
        for _ in range(self.draw(st.integers(1, 2))):
            blob = self.blob()
            listed = self.draw(st.sampled_from([blob, blob, bytes(len(blob))]))
            name = self.draw(st.sampled_from([blob_hash(blob)] * 3 + [BlobHash(each) for each in self.names]))
            commit = parts.commit(
                self.owner, admission=admission(self.owner), round=run.round, base=run.tip.state, blob=name,
                size=len(blob), pieces=pieces_hash(listed),
            )  # fmt: skip
            payload = commit.payload if self.draw(st.booleans()) else self.payload(commit)
            self._note("commit", attacked.swarm.receive(b"C" + wire_of(self.owner, Commit, payload)))
            served = self.draw(st.sampled_from([blob, listed]))
            key = PublicKey(self.owner.public)
            attacked.swarm.net.scripted[key] = holder(functools.partial(honest, data=served))

    def _note(self, what: str, taken: bool) -> None:
        COVERED[f"{what} {'taken' if taken else 'refused'}"] += 1


def check(store: RunStore, honest_blobs: list[BlobHash]) -> None:
    """The log can be followed from its beginning, and has each honest contribution; its blobs are there."""
    run = store.snapshot
    position, payloads = first_position(store.charter), [store.blobs.get(each.name) for each in run.log]
    certificates: list[Certificate | None] = [*map(certificate_in, payloads), run.certificate][1:]
    assert run.tip.round == len(payloads) == ROUNDS
    for payload, certificate, expected in zip(payloads, certificates, honest_blobs, strict=True):
        assert certificate is not None
        step = check_step(position, read_step(payload, certificate, store.charter), store.charter)
        assert isinstance(step, Link)
        owners = {commit.owner for commit in step.commits}
        assert HONEST.public in owners
        assert expected in {commit.blob for commit in step.commits if commit.owner == HONEST.public}
        assert all(BlobHash(commit.blob) in store.blobs for commit in step.commits)
        COVERED["hostile contribution folded"] += len(owners) > 1
        position = position.after(step.entry)


async def play(data: st.DataObject, store: RunStore, folder: Path) -> list[BlobHash]:
    """Some rounds under attack. The honest peer's blobs."""
    attacked = Attacked.of(store, Net(folder))
    blobs: list[BlobHash] = []
    for number in range(ROUNDS):
        names = [*(each.name for each in store.snapshot.log), store.charter.digest, parts.HASH_A, *blobs]
        true = blob_hash(contribution(store, HONEST, 20 + number)[1])
        peers = [Fuzz(data, attacked, owner, [*names, true]) for owner in HOSTILE]
        early = data.draw(st.integers(0, len(peers)))
        for peer in peers[:early]:
            peer.send()
        await attacked.ticks(1)
        blobs.append(attacked.honest(HONEST, 20 + number))
        assert blobs[-1] == true
        for peer in peers[early:]:
            peer.send()
        assert attacked.present(HONEST, at=attacked.swarm.now)
        await attacked.close(HONEST)
        if store.snapshot.round == number:  # a round is reopened where too few came in time
            await attacked.close(HONEST)
        assert api_of(attacked.session).status().run == parts.RUN
        assert not len(attacked.session.faults._dropped), "data that no check refused made a decision fail"
    await attacked.ticks(1)
    return blobs


@settings(
    max_examples=settings().max_examples // 8,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.data())
def test_rounds_go_on_under_fuzzed_records_and_the_run_restarts(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with opened_store(folder / "run") as store:
            blobs = virtual_time.run(play(data, store, folder / "net"))
            check(store, blobs)
            with reopened(store) as again:
                assert again.snapshot.tip == store.snapshot.tip
                check(again, blobs)


def test_the_fuzzing_reaches_what_it_is_meant_for() -> None:
    """Runs behind the test above."""
    expected = {
        "heartbeat taken", "heartbeat refused", "commit taken", "commit refused",
        "hostile contribution folded",
    }  # fmt: skip
    assert {what for what, count in COVERED.items() if count} >= expected, COVERED
