"""Manifests: file names that are valid on every system, signed by the authority only."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from barnraise.contract.manifest import (
    MAX_MANIFEST_BYTES,
    AveragedState,
    FileEntry,
    Manifest,
    manifest_json,
    open_manifest,
)
from barnraise.contract.run_keys import Signers
from barnraise.contract.standing import NONE
from barnraise.contract.tip import Position, Tip
from barnraise.core.errors import BadSignature, MalformedRecord
from barnraise.core.ids import RunId
from barnraise.core.signed import sign
from tests.support.parts import ADA, AUTHORITY, HASH_A, HASH_B, RUN

GOOD = [
    "model.safetensors",
    "model-00001-of-00002.safetensors",
    "a",
    "README.md",
    "con1",
    "console.txt",
    "a" * 100,
]
BAD = [
    "", ".", "..", "../x", "a/b", "a\\b", "/etc/passwd", ".hidden", "-rf", "a b", "a:b", "a\0", "a\n", "é",
    "con", "CON", "Con.txt", "nul", "prn.json", "aux.a.b", "com1", "LPT9.bin", "trailing.", "a..", "a" * 101,
    "C:", "~", "%2e%2e",
]  # fmt: skip


def entry(name: str) -> FileEntry:
    return FileEntry(name=name, hash=HASH_A, size=10)


def manifest(*names: str, run: str = RUN) -> Manifest:
    return Manifest(
        form="trained",
        run=run,
        round=5,
        state=HASH_A,
        previous=HASH_B,
        epoch=0,
        height=0,
        closers=(),
        charter=HASH_A,
        tokens=1000,
        held_out=None,
        files=tuple(entry(name) for name in names),
    )


@pytest.mark.parametrize("void", [(), ((1, 1),), ((0, 2), (3, 4))])
def test_void_rounds_are_over_and_in_order(void: tuple[tuple[int, int], ...]) -> None:
    data = manifest("a").model_copy(update={"void": void}).model_dump_json()
    assert Manifest.model_validate_json(data).void == void


@pytest.mark.parametrize("void", [((2, 1),), ((0, 2), (2, 4)), ((3, 4), (0, 1)), ((1, 5),), ((6, 8),)])
def test_other_void_rounds_are_refused(void: tuple[tuple[int, int], ...]) -> None:
    data = manifest("a").model_copy(update={"void": void}).model_dump_json()
    with pytest.raises(ValidationError):
        Manifest.model_validate_json(data)


def mean(*rounds: int) -> str:
    states = tuple(AveragedState(round=round, state=HASH_B) for round in rounds)
    return manifest("a").model_copy(update={"mean_of": states, "void": ((1, 2),)}).model_dump_json()


@pytest.mark.parametrize("rounds", [(4, 5), (1, 3, 5), (0, 5)])
def test_a_mean_is_of_several_states_up_to_its_round(rounds: tuple[int, ...]) -> None:
    found = Manifest.model_validate_json(mean(*rounds))
    assert tuple(each.round for each in found.mean_of) == rounds
    assert found.averaged


@pytest.mark.parametrize("rounds", [(5,), (5, 4), (4, 4, 5), (3, 4), (4, 6), (2, 5), (*range(7, 40), 5)])
def test_other_means_are_refused(rounds: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError):
        Manifest.model_validate_json(mean(*rounds))


def test_nobody_goes_on_from_a_mean() -> None:
    with pytest.raises(MalformedRecord, match="a mean of states, from which nobody trains"):
        Manifest.model_validate_json(mean(4, 5)).tip(NONE)


def test_a_manifest_of_a_state_says_nothing_of_means() -> None:
    assert b"mean_of" not in sign(AUTHORITY, manifest("a")).payload


@pytest.mark.parametrize("name", GOOD)
def test_plain_names_are_accepted(name: str) -> None:
    assert entry(name).name == name


@pytest.mark.parametrize("name", BAD)
def test_names_that_are_not_plain_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="not a plain file name"):
        entry(name)


@given(st.text(max_size=20))
def test_no_accepted_name_contains_a_separator(name: str) -> None:
    try:
        taken = entry(name).name
    except ValidationError:
        return
    assert taken.isascii()
    assert taken.isprintable()
    assert not set(taken) & set("/\\: ")
    assert taken.strip(".") == taken


@pytest.mark.parametrize("names", [("a", "a"), ("README.md", "readme.MD"), ("x", "a", "X")])
def test_names_that_differ_only_in_case_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError, match="two files with one name"):
        manifest(*names)


def test_a_manifest_lists_at_least_one_file() -> None:
    with pytest.raises(ValidationError):
        manifest()


def test_a_manifest_has_a_position_in_the_log() -> None:
    assert manifest("a", "b").tip(NONE) == Tip(Position(5, HASH_B), HASH_A)  # type: ignore[arg-type]
    assert manifest("a", "b").size == 20


def test_a_manifest_of_the_authority_is_opened() -> None:
    signed = sign(AUTHORITY, manifest("a"))
    assert open_manifest(signed.wire, run=RUN, signers=Signers(AUTHORITY.public)) == signed


def test_a_manifest_signed_by_another_key_is_refused() -> None:
    with pytest.raises(BadSignature):
        open_manifest(sign(ADA, manifest("a")).wire, run=RUN, signers=Signers(AUTHORITY.public))


def test_a_manifest_of_another_run_is_refused() -> None:
    wire = sign(AUTHORITY, manifest("a", run="other")).wire
    with pytest.raises(MalformedRecord, match="other"):
        open_manifest(wire, run=RUN, signers=Signers(AUTHORITY.public))
    assert open_manifest(wire, run=RunId("other"), signers=Signers(AUTHORITY.public)).value.run == "other"


@pytest.mark.parametrize("size", [0, 96, MAX_MANIFEST_BYTES + 1])
def test_a_manifest_of_a_wrong_size_is_refused_before_it_is_parsed(size: int) -> None:
    with pytest.raises(MalformedRecord, match=f"{size} bytes"):
        open_manifest(bytes(size), run=RUN, signers=Signers(AUTHORITY.public))


def test_its_json_has_the_key_the_signature_and_the_content() -> None:
    signed = sign(AUTHORITY, manifest("a"))
    view = json.loads(manifest_json(signed))
    assert view["key"] == AUTHORITY.public
    assert bytes.fromhex(view["key"] + view["signature"]) == signed.wire[:96]
    assert Manifest.model_validate_json(json.dumps(view["signed"])) == signed.value
