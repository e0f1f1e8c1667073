"""Rotation of the run key: what a successor may sign, from when on, and what it takes to name one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnraise.contract.keys_in_force import KeysInForce
from barnraise.contract.log_entries import Resume, Succession, parse_entry
from barnraise.contract.manifest import Manifest, open_manifest
from barnraise.contract.records import check_admission, open_record, seal
from barnraise.contract.run_keys import (
    EPOCHS_PER_KEY,
    MAX_SUCCESSORS,
    NamedSuccessor,
    Signers,
    first_epoch,
    generation_of,
    name_successor,
    proved,
)
from barnraise.contract.standing import NONE
from barnraise.contract.tip import Position, first_position, holders
from barnraise.core.errors import BadSignature, StateError
from barnraise.core.identity import Identity
from barnraise.core.ids import PublicKey
from barnraise.core.signed import sign
from barnraise.fold.log import Amendment, check_step
from tests.support import parts

FIRST = PublicKey(parts.AUTHORITY.public)
SUCCESSOR, THIRD, THIEFS = (Identity.from_seed(bytes([n]) * 32) for n in (11, 12, 13))
CHARTER = parts.charter(parts.run_spec(), parts.state())
START = first_position(CHARTER)
NAMED = name_successor(parts.RUN, 1, parts.AUTHORITY, SUCCESSOR)
NEXT = name_successor(parts.RUN, 2, SUCCESSOR, THIRD)
BY_THIEF = name_successor(parts.RUN, 1, parts.AUTHORITY, THIEFS)
"""The first run key is stolen, and names another successor."""


def succession(
    position: Position, named: NamedSuccessor = NAMED, by: Identity = parts.AUTHORITY
) -> Amendment:
    return parts.amendment(Succession, position, by, named=named)


def resume(position: Position, epoch: int, by: Identity) -> Amendment:
    return parts.amendment(Resume, position, by, epoch=epoch)


def after(position: Position, step: Amendment) -> Position:
    return position.after(check_step(position, step, CHARTER).entry)


def rotated() -> Position:
    return after(
        after(START, succession(START)), resume(after(START, succession(START)), EPOCHS_PER_KEY, SUCCESSOR)
    )


@given(st.integers(0, 2**31 - 1))
def test_each_epoch_is_of_one_key(epoch: int) -> None:
    generation = generation_of(epoch)
    assert first_epoch(generation) <= epoch < first_epoch(generation + 1)


def test_a_named_successor_takes_the_place_of_the_run_key() -> None:
    named = after(START, succession(START))
    assert (named.run_key(FIRST), named.run_keys(FIRST)) == (FIRST, (FIRST, SUCCESSOR.public))
    here = after(named, resume(named, EPOCHS_PER_KEY, SUCCESSOR))
    assert here.run_key(FIRST) == SUCCESSOR.public
    assert here.authorities(FIRST).keys == (SUCCESSOR.public,)
    again = after(here, resume(here, EPOCHS_PER_KEY + 1, SUCCESSOR))
    assert again.run_key(FIRST) == SUCCESSOR.public


def test_a_succession_survives_the_wire() -> None:
    entry = succession(START).entry
    assert parse_entry(entry.payload) == entry


@pytest.mark.parametrize(
    ("epoch", "by"),
    [
        (EPOCHS_PER_KEY, parts.AUTHORITY),
        (EPOCHS_PER_KEY, THIEFS),
        (1, SUCCESSOR),
        (2 * EPOCHS_PER_KEY, SUCCESSOR),
        (2 * EPOCHS_PER_KEY, parts.AUTHORITY),
    ],
)
def test_nobody_resumes_in_an_epoch_of_another_key(epoch: int, by: Identity) -> None:
    named = after(START, succession(START))
    with pytest.raises(BadSignature):
        check_step(named, resume(named, epoch, by), CHARTER)


def test_nothing_of_the_replaced_key_counts_any_more() -> None:
    here = rotated()
    for void in (
        resume(here, EPOCHS_PER_KEY + 1, parts.AUTHORITY),
        resume(here, 7, parts.AUTHORITY),
        succession(here, NEXT, parts.AUTHORITY),
    ):
        with pytest.raises((BadSignature, StateError)):
            check_step(here, void, CHARTER)


def test_the_first_successor_that_the_log_names_stands() -> None:
    named = after(START, succession(START))
    assert after(named, succession(named)).successors == named.successors
    with pytest.raises(BadSignature):
        check_step(named, succession(named, BY_THIEF), CHARTER)
    resumed = after(named, resume(named, 5, parts.AUTHORITY))
    assert resumed.successors == named.successors
    with pytest.raises(BadSignature):
        check_step(resumed, succession(resumed, BY_THIEF), CHARTER)


@pytest.mark.parametrize(
    "named",
    [
        NAMED.model_copy(update={"by_successor": NAMED.by_key}),
        NAMED.model_copy(update={"by_key": NAMED.by_successor}),
        NAMED.model_copy(update={"statement": BY_THIEF.statement}),
        name_successor("other", 1, parts.AUTHORITY, SUCCESSOR),
        name_successor(parts.RUN, 2, parts.AUTHORITY, SUCCESSOR),
        name_successor(parts.RUN, 1, THIEFS, SUCCESSOR),
        name_successor(parts.RUN, 1, parts.AUTHORITY, parts.AUTHORITY),
    ],
)
def test_a_successor_is_named_by_both_keys_for_this_place(named: NamedSuccessor) -> None:
    with pytest.raises(BadSignature):
        check_step(START, succession(START, named), CHARTER)
    with pytest.raises(BadSignature):
        proved((named,), parts.RUN, FIRST)


def test_a_chain_of_successors_is_proved_link_by_link() -> None:
    assert proved((NAMED, NEXT), parts.RUN, FIRST) == (NAMED, NEXT)
    assert proved((NAMED,), parts.RUN, FIRST, known=(NAMED, NEXT)) == (NAMED, NEXT)
    by_others = (name_successor(parts.RUN, 2, THIEFS, THIRD), BY_THIEF)
    for false in ((NEXT,), (BY_THIEF, NEXT), *((NAMED, named) for named in by_others)):
        for known in ((), (NAMED,)):
            with pytest.raises(BadSignature):
                proved(false, parts.RUN, FIRST, known)


def test_a_stolen_key_names_no_successor_behind_its_own() -> None:
    head = seal(THIEFS, parts.head(epoch=2 * EPOCHS_PER_KEY, successors=(NAMED, BY_THIEF)))
    for position in (START, after(START, succession(START)), rotated()):
        with pytest.raises(BadSignature):
            open_record(head, run=parts.RUN, signers=KeysInForce(FIRST, position).signers, now=parts.NOW)


def test_what_a_program_knows_stays_whatever_a_stolen_key_says() -> None:
    """A resume by the stolen key leads to a log that names no successor, or the thief's."""
    keys = KeysInForce(FIRST, after(START, succession(START)))
    keys.follow(replace(START, epoch=3))
    assert keys.position.successors == (NAMED,)
    for naming in (
        lambda: keys.heard(EPOCHS_PER_KEY, (BY_THIEF,), parts.RUN),
        lambda: keys.follow(replace(START, successors=(BY_THIEF,))),
    ):
        with pytest.raises(BadSignature):
            naming()


def test_a_head_counts_by_the_key_of_its_epoch() -> None:
    here, before = rotated(), KeysInForce(FIRST, after(START, succession(START))).signers
    by_successor = parts.head(epoch=EPOCHS_PER_KEY, successors=(NAMED,))
    for signers in (before, KeysInForce(FIRST, here).signers, Signers(FIRST)):
        opened = open_record(seal(SUCCESSOR, by_successor), run=parts.RUN, signers=signers, now=parts.NOW)
        assert opened.signer == SUCCESSOR.public
    by_first = seal(parts.AUTHORITY, parts.head())
    open_record(by_first, run=parts.RUN, signers=before, now=parts.NOW)
    refused = (
        (by_first, KeysInForce(FIRST, here).signers),
        (seal(parts.AUTHORITY, by_successor), before),
        (seal(SUCCESSOR, parts.head(epoch=3, successors=(NAMED,))), before),
        (seal(THIEFS, parts.head(epoch=EPOCHS_PER_KEY, successors=(BY_THIEF,))), before),
        (seal(THIEFS, parts.head(epoch=EPOCHS_PER_KEY)), Signers(FIRST)),
    )
    for wire, signers in refused:
        with pytest.raises(BadSignature):
            open_record(wire, run=parts.RUN, signers=signers, now=parts.NOW)


def test_a_head_of_a_run_key_that_it_does_not_name_is_refused() -> None:
    """Also where the successor is known here: the signer may be a closer."""
    ada = PublicKey(parts.ADA.public)
    signers = KeysInForce(FIRST, replace(after(START, succession(START)), closers=(ada,))).signers
    for identity in (parts.ADA, SUCCESSOR):
        named = parts.head(epoch=EPOCHS_PER_KEY, successors=(NAMED,))
        open_record(seal(identity, named), run=parts.RUN, signers=signers, now=parts.NOW)
        alone = seal(identity, parts.head(epoch=EPOCHS_PER_KEY))
        with pytest.raises(BadSignature):
            open_record(alone, run=parts.RUN, signers=signers, now=parts.NOW)


def test_a_run_key_that_is_a_closer_signs_nothing_of_its_successors() -> None:
    closers = frozenset((FIRST, PublicKey(SUCCESSOR.public)))
    for signers in (Signers(FIRST, closers=closers), Signers(FIRST, (NAMED,), closers=closers)):
        for key, epoch, counts in (
            (FIRST, 3, True),
            (FIRST, EPOCHS_PER_KEY, False),
            (PublicKey(SUCCESSOR.public), 3, True),
            (PublicKey(SUCCESSOR.public), EPOCHS_PER_KEY, True),
        ):
            known = signers.introduced((NAMED,), parts.RUN)
            assert known.announces(key, epoch) is counts
            assert known.describes(key, epoch) is counts
    head = seal(parts.AUTHORITY, parts.head(epoch=EPOCHS_PER_KEY, successors=(NAMED,)))
    with pytest.raises(BadSignature):
        open_record(head, run=parts.RUN, signers=Signers(FIRST, closers=closers), now=parts.NOW)
    wire = sign(parts.AUTHORITY, manifest(rotated(), (NAMED,))).wire
    with pytest.raises(BadSignature):
        open_manifest(wire, run=parts.RUN, signers=Signers(FIRST, closers=closers))


def test_a_replaced_key_admits_nobody() -> None:
    ada = PublicKey(parts.ADA.public)
    keys = KeysInForce(FIRST, after(START, succession(START)))
    old, new = parts.admission(parts.ADA), parts.admission(parts.ADA, by=SUCCESSOR)
    for text in (old, new):
        check_admission(text, ada, run=parts.RUN, signers=keys.signers, now=parts.NOW)
    keys.follow(rotated())
    check_admission(new, ada, run=parts.RUN, signers=keys.signers, now=parts.NOW)
    with pytest.raises(BadSignature):
        check_admission(old, ada, run=parts.RUN, signers=keys.signers, now=parts.NOW)


def manifest(position: Position, successors: tuple[NamedSuccessor, ...]) -> Manifest:
    return parts.manifest(position, successors=successors)


def test_a_checkpoint_brings_the_proof_of_its_signer_along() -> None:
    here = rotated()
    for identity, value in (
        (parts.AUTHORITY, manifest(START, ())),
        (SUCCESSOR, manifest(here, (NAMED,))),
        (SUCCESSOR, manifest(START, (NAMED,))),
    ):
        open_manifest(sign(identity, value).wire, run=parts.RUN, signers=Signers(FIRST))
    assert manifest(here, (NAMED,)).tip(NONE).position.run_key(FIRST) == SUCCESSOR.public
    for identity, value in (
        (parts.AUTHORITY, manifest(here, (NAMED,))),
        (SUCCESSOR, manifest(START, ())),
        (THIEFS, manifest(here, (NAMED,))),
    ):
        with pytest.raises(BadSignature):
            open_manifest(sign(identity, value).wire, run=parts.RUN, signers=Signers(FIRST))
    with pytest.raises(ValueError, match="does not name"):
        manifest(here, ())


def test_only_keys_of_running_programs_are_at_work() -> None:
    keys = KeysInForce(FIRST, after(START, succession(START)))
    assert keys.counting == {FIRST}
    assert holders(CHARTER, keys.at_work) == (FIRST,)
    assert keys.signers.current == (FIRST, SUCCESSOR.public)
    keys.heard(EPOCHS_PER_KEY, (NAMED,), parts.RUN)
    assert keys.counting == {SUCCESSOR.public}
    assert holders(CHARTER, keys.at_work) == (SUCCESSOR.public,)
    assert keys.run_key == FIRST, "the log is not known up to the resume"
    keys.follow(rotated())
    keys.follow(START)
    assert FIRST not in keys.signers, "an older checkpoint makes no key valid again"
    assert keys.run_key == keys.coordinator == SUCCESSOR.public
    assert FIRST in keys.since_the_start().signers


def test_a_head_with_all_successors_is_small_enough_to_send() -> None:
    from barnraise.contract.records import MAX_RECORD_BYTES

    keys = [Identity.from_seed(bytes([100 + n]) * 32) for n in range(MAX_SUCCESSORS)]
    chain = [parts.AUTHORITY, *keys]
    named = tuple(name_successor(parts.RUN, n + 1, chain[n], chain[n + 1]) for n in range(MAX_SUCCESSORS))
    head = parts.head(epoch=first_epoch(MAX_SUCCESSORS), successors=named)
    wire = seal(keys[-1], head)
    assert len(wire) < 0.8 * MAX_RECORD_BYTES
    assert open_record(wire, run=parts.RUN, signers=Signers(FIRST), now=parts.NOW).value == head
