"""Signed records: altered, misplaced, foreign and expired ones are refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hivemind.dht.routing import DHTID
from hivemind.dht.validation import DHTRecord
from hivemind.utils import MSGPackSerializer
from hypothesis import given
from hypothesis import strategies as st

from barnraise.contract.close_rules import fold_order, open_commits
from barnraise.contract.dht_keys import closer_heads_key, dht_key_of, head_key
from barnraise.contract.keys_in_force import KeysInForce
from barnraise.contract.log_entries import Close
from barnraise.contract.records import (
    MAX_RECORD_BYTES,
    Admission,
    Commit,
    Head,
    JoinClaim,
    Presence,
    Record,
    open_record,
    seal,
)
from barnraise.contract.run_keys import Signers, first_epoch, name_successor
from barnraise.core.errors import BadSignature, MalformedRecord, TrustError
from barnraise.core.identity import Identity
from barnraise.core.ids import Millis
from barnraise.core.signed import Signable, Signed, open_signed, open_text, sign
from barnraise.network.record_dht import RecordValidator
from tests.support.parts import (
    ADA,
    AUTHORITY,
    BEN,
    HASH_B,
    INSTANCE,
    NOW,
    RUN,
    STRANGER,
    admission,
    close,
    commit,
    guard,
    head,
    presence,
)

LATER = 4e9
"""An expiration far in the future."""


def opened(value: bytes, now: int = NOW) -> Signed[Record]:
    return open_record(value, run=RUN, signers=Signers(AUTHORITY.public), now=Millis(now))


RECORDS: list[tuple[Identity, Record]] = [(ADA, presence()), (ADA, commit(ADA)), (AUTHORITY, head())]
every_record = pytest.mark.parametrize(("by", "record"), RECORDS, ids=["presence", "commit", "head"])


@every_record
def test_a_sealed_record_is_opened(by: Identity, record: Record) -> None:
    signed = opened(seal(by, record))
    assert (signed.value, signed.signer) == (record, by.public)


@every_record
def test_any_flipped_byte_is_refused(by: Identity, record: Record) -> None:
    value = seal(by, record)
    for place in range(len(value)):
        broken = bytearray(value)
        broken[place] ^= 1 << place % 8
        with pytest.raises(TrustError):
            opened(bytes(broken))


@given(st.binary(max_size=300))
def test_random_bytes_raise_trust_errors(noise: bytes) -> None:
    for value in (noise, *(tag + noise for tag in (b"P", b"C", b"H"))):
        with pytest.raises(TrustError):
            opened(value)


@given(st.text(max_size=200))
def test_random_text_raises_trust_errors(noise: str) -> None:
    with pytest.raises(TrustError):
        open_text(Commit, noise, signer=None)


@given(st.dictionaries(st.text(max_size=9), st.integers() | st.text(max_size=9), max_size=4))
def test_a_valid_signature_does_not_excuse_a_wrong_schema(fields: dict[str, object]) -> None:
    class Loose(Signable, extra="allow"):
        DOMAIN = Commit.DOMAIN

    signed = sign(ADA, Loose.model_validate(fields))
    with pytest.raises(MalformedRecord):
        open_signed(Commit, signed.wire, signer=ADA.public)


@pytest.mark.parametrize("other", [Presence, Head, Admission, JoinClaim])
def test_a_commit_is_not_opened_as_another_kind(other: type[Signable]) -> None:
    with pytest.raises(BadSignature):
        open_signed(other, sign(ADA, commit(ADA)).wire, signer=ADA.public)


def test_a_changed_tag_invalidates_the_signature() -> None:
    value = seal(ADA, commit(ADA))
    for tag in (b"P", b"H"):
        with pytest.raises(BadSignature):
            opened(tag + value[1:])


def test_a_record_that_is_too_long_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(MalformedRecord, match="bytes"):
        opened(b"C" + bytes(MAX_RECORD_BYTES + 1))


def test_a_commit_that_no_close_could_embed_is_refused() -> None:
    payload = commit(ADA).payload + 3_000 * b" "
    wire = bytes.fromhex(ADA.public) + ADA.sign(Commit.DOMAIN + payload) + payload
    with pytest.raises(MalformedRecord, match="bytes"):
        opened(b"C" + wire)


BORROWED: dict[str, Callable[[], bytes]] = {
    "a stranger without admission": lambda: seal(STRANGER, commit(STRANGER, admission="")),
    "an admission that a stranger signed": lambda: seal(
        STRANGER, commit(STRANGER, admission=admission(STRANGER, by=STRANGER))
    ),
    "another key's admission": lambda: seal(STRANGER, commit(STRANGER, admission=admission(ADA))),
    "an admission to another run": lambda: seal(ADA, commit(ADA, admission=admission(ADA, run="other"))),
    "an admission that has run out": lambda: seal(
        ADA, commit(ADA, admission=admission(ADA, expires=NOW - 1))
    ),
    "a record of another run": lambda: seal(ADA, commit(ADA, run="other")),
    "a record in another's name": lambda: seal(BEN, commit(ADA)),
    "a head that a peer signed": lambda: seal(ADA, head()),
    "a claim to join as admission": lambda: seal(
        ADA,
        commit(
            ADA,
            admission=sign(
                ADA, JoinClaim(run=RUN, owner=ADA.public, instance=INSTANCE, name="", credit=False, at=NOW)
            ).text,
        ),
    ),
    "an admission that is not base64": lambda: seal(ADA, commit(ADA, admission="né")),
}


@pytest.mark.parametrize("make", BORROWED.values(), ids=BORROWED.keys())
def test_records_of_other_owners_runs_and_keys_are_refused(make: Callable[[], bytes]) -> None:
    with pytest.raises((BadSignature, MalformedRecord)):
        opened(make())


def test_an_admission_is_valid_until_its_last_millisecond() -> None:
    value = seal(ADA, commit(ADA, admission=admission(ADA, expires=NOW)))
    opened(value, NOW)
    with pytest.raises(MalformedRecord, match="ended"):
        opened(value, NOW + 1)


# At the validator that every node of the DHT runs.


def stored(value: bytes, *, key: str, subkey: str | None, expires: float) -> DHTRecord:
    place = DHTID.generate(source=key).to_bytes()
    return DHTRecord(place, MSGPackSerializer.dumps(subkey), MSGPackSerializer.dumps(value), expires)


def accepts(value: bytes, *, key: str, subkey: str | None, expires: float = NOW / 1000) -> bool:
    validator = RecordValidator(RUN, KeysInForce.alone(AUTHORITY.public), lambda: NOW, guard())
    return validator.validate(stored(value, key=key, subkey=subkey, expires=expires))


@every_record
def test_a_record_is_stored_only_at_its_own_key(by: Identity, record: Record) -> None:
    place, value = dht_key_of(record), seal(by, record)
    assert accepts(value, key=place.key, subkey=place.subkey)
    assert not accepts(value, key=place.key, subkey=BEN.public)
    assert not accepts(value, key=place.key + "0", subkey=place.subkey)
    assert not accepts(value, key=place.key, subkey=None if place.subkey else ADA.public)
    assert not accepts(value[:-1], key=place.key, subkey=place.subkey)


def test_a_head_of_a_successor_that_is_not_known_here_is_stored_as_the_run_keys() -> None:
    named = (name_successor(RUN, 1, AUTHORITY, BEN),)
    record = head(epoch=first_epoch(1), successors=named)
    for value, accepted in ((seal(BEN, record), True), (seal(ADA, record), False)):
        assert accepts(value, key=head_key(RUN), subkey=None) is accepted
        assert not accepts(value, key=closer_heads_key(RUN), subkey=BEN.public)


def test_the_subkey_of_another_owner_is_refused() -> None:
    place = dht_key_of(commit(ADA))
    assert not accepts(seal(BEN, commit(BEN)), key=place.key, subkey=place.subkey)
    assert not accepts(seal(BEN, commit(ADA)), key=place.key, subkey=place.subkey)


@pytest.mark.parametrize(("by", "record"), [RECORDS[0], RECORDS[2]], ids=["presence", "head"])
def test_a_record_with_a_time_cannot_outlive_it(by: Identity, record: Record) -> None:
    place = dht_key_of(record)
    assert not accepts(seal(by, record), key=place.key, subkey=place.subkey, expires=NOW / 1000 + 86_400)


def test_every_record_expires() -> None:
    place = dht_key_of(commit(ADA))
    assert not accepts(seal(ADA, commit(ADA)), key=place.key, subkey=place.subkey, expires=LATER)


@given(st.binary(max_size=60))
def test_the_validator_refuses_noise_and_raises_nothing(noise: bytes) -> None:
    validator = RecordValidator(RUN, KeysInForce.alone(AUTHORITY.public), lambda: NOW, guard())
    assert not validator.validate(DHTRecord(noise, noise, noise, 1.0))
    assert not accepts(noise, key=f"{RUN}/head", subkey=None)


# Closes.


def entry(owner: Identity, **other: object) -> Signed[Commit]:
    return sign(owner, commit(owner).model_copy(update=other))


def test_a_close_lists_its_commits_in_order() -> None:
    commits = open_commits(close([entry(BEN), entry(ADA)], previous=HASH_B))
    assert [c.owner for c in commits] == [BEN.public, ADA.public]


CLOSES: dict[str, Callable[[], Close]] = {
    "with one peer twice": lambda: close([entry(ADA), entry(ADA, tokens=9)], previous=HASH_B),
    "with a commit of another round": lambda: close([entry(ADA), entry(BEN, round=1)], previous=HASH_B),
    "with a commit of another state": lambda: close(
        [entry(ADA), entry(BEN, base_state=HASH_B)], previous=HASH_B
    ),
    "with a commit of another run": lambda: close([entry(ADA), entry(BEN, run="other")], previous=HASH_B),
    "with a commit in another's name": lambda: close([sign(BEN, commit(ADA))], previous=HASH_B),
}  # fmt: skip


@pytest.mark.parametrize("make", CLOSES.values(), ids=CLOSES.keys())
def test_a_close_that_breaks_a_rule_is_refused(make: Callable[[], Close]) -> None:
    with pytest.raises((BadSignature, MalformedRecord)):
        open_commits(make())


def test_no_key_is_always_first_in_a_close() -> None:
    firsts = {min([ADA, BEN], key=lambda p: fold_order(0, r, p.public)).public for r in range(32)}  # type: ignore[arg-type]
    assert firsts == {ADA.public, BEN.public}
