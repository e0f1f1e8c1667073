"""A commit is signed correctly and padded: a close embeds it, and one that cannot be read ends the log."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from barnraise.contract.certificates import MAX_CLOSERS, Certificate
from barnraise.contract.field_types import MAX_EMBEDDED_BYTES
from barnraise.contract.log_entries import MAX_CONTRIBUTIONS, MAX_ENTRY_BYTES, parse_entry
from barnraise.contract.records import Commit
from barnraise.core.errors import MalformedRecord
from barnraise.core.signed import open_text, sign
from coordinator.store.run_store import RunStore
from tests.support import parts, virtual_time
from tests.support.attacked import Attacked, wire_of
from tests.support.coordinators import contribution, opened_store, reopened
from tests.support.transfers import Net


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with opened_store(tmp_path) as made:
        yield made


def padded(payload: bytes, space: bytes = b" ") -> bytes:
    """As long as a commit may be."""
    return payload[:-1] + (MAX_EMBEDDED_BYTES - 96 - len(payload)) * space + b"}"


SPELLINGS: dict[str, Callable[[bytes], bytes]] = {
    "white space at the end": lambda p: p + b" ",
    "white space before": lambda p: b"\n" + p,
    "white space within": padded,
    "tabs within": lambda p: padded(p, b"\t"),
    "spaces after commas": lambda p: json.dumps(json.loads(p)).encode(),
    "another order": lambda p: json.dumps(json.loads(p), sort_keys=True, separators=(",", ":")).encode(),
    "an exponent": lambda p: p.replace(b'"loss":2.5', b'"loss":25e-1'),
    "more digits": lambda p: p.replace(b'"loss":2.5', b'"loss":2.5000'),
    "escapes": lambda p: p.replace(b'"run":"b', b'"run":"\\u0062'),
    "a name twice": lambda p: p.replace(b'"loss":2.5', b'"loss":2.5,"loss":2.5'),
    "an unknown name twice": lambda p: p[:-1] + b',"x":1,"x":1}',
    "an unknown field with white space": lambda p: p[:-1] + b',"x": 1}',
    "an unknown number without end": lambda p: p[:-1] + b',"x":' + 1900 * b"7" + b".0}",
    "a deep unknown field": lambda p: p[:-1] + b',"x":' + 900 * b"[" + 900 * b"]" + b"}",
    "half of a surrogate pair": lambda p: p[:-1] + b',"x":"\\ud800"}',
}


def test_a_commit_in_another_spelling_is_refused_and_the_round_closes_without(
    store: RunStore, tmp_path: Path
) -> None:
    async def scene() -> None:
        attacked = Attacked.of(store, Net(tmp_path / "net"))
        attacked.honest(parts.ADA, 1)
        commit, blob = contribution(store, parts.BEN, 2)
        attacked.node(parts.BEN).holds(blob)
        for name, spell in SPELLINGS.items():
            spelled = spell(commit.value.payload)
            assert spelled != commit.value.payload
            assert not attacked.swarm.receive(b"C" + wire_of(parts.BEN, Commit, spelled)), name
        assert attacked.present(parts.ADA)
        await attacked.ticks()
        assert attacked.folded == [{parts.ADA.public}]

    virtual_time.run(scene())
    with reopened(store) as again:
        assert again.snapshot.tip == store.snapshot.tip


def test_an_unknown_field_of_a_later_version_is_taken(store: RunStore) -> None:
    payload = parts.commit(parts.BEN).payload[:-1] + b',"later":{"a":[1,2.5,"\xc3\xa9"]}}'
    wire = wire_of(parts.BEN, Commit, payload)
    signed = open_text(Commit, base64.b64encode(wire).decode(), signer=parts.BEN.public)
    assert signed.wire == wire, "and passed on as it was signed"


@pytest.mark.parametrize(
    "spell",
    [lambda t: t + "\n", lambda t: " " + t, lambda t: t.rstrip("=") + "====", lambda t: t[:-3] + "B=="],
    ids=["newline", "space", "padding", "bits that are not read"],
)
def test_base64_in_another_spelling_is_refused(spell: Callable[[str], str]) -> None:
    for name in ("a", "ab", "abc"):  # of each length of the padding
        text = sign(parts.BEN, parts.commit(parts.BEN, run=name)).text
        if not text.endswith("==") and "B==" in spell("AAAA=="):
            continue
        with pytest.raises(MalformedRecord):
            open_text(Commit, spell(text), signer=None)


def test_the_largest_close_can_be_read() -> None:
    """With as many commits, as long, and as many signatures as there can be."""
    found = Certificate(
        ballot=2**53 - 1, signatures=tuple((f"{n:064x}", "f" * 128) for n in range(MAX_CLOSERS))
    )
    one = sign(parts.ADA, parts.commit(parts.ADA))
    close = parts.close([one], previous=parts.HASH_A, certificate=found, reason="\u0001" * 400, turns=2**20)
    longest = base64.b64encode(MAX_EMBEDDED_BYTES * b"x").decode()
    many = {"commits": MAX_CONTRIBUTIONS * (longest,), "weights": MAX_CONTRIBUTIONS * (2**40 - 1,)}
    largest = close.model_copy(update=many)
    assert len(largest.payload) <= MAX_ENTRY_BYTES - 2**19, "space is left for fields of later versions"
    assert parse_entry(largest.payload) == largest
