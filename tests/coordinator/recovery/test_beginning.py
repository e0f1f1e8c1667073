"""How a start of `coordinator serve` goes on: a key that signed a log begins no other one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from barnraise.contract.run_keys import name_successor
from barnraise.core.errors import StateError, UserError
from coordinator.recovery.beginning import (
    Asked,
    Beginning,
    Continue,
    FolderFacts,
    NewRun,
    Recover,
    decide_beginning,
)
from tests.support import parts

KEY, OTHER = parts.AUTHORITY.public, parts.STRANGER.public
EMPTY = FolderFacts(Path("run"), key=None, journal=None, archive=None, restored=False)
COMPLETE = replace(EMPTY, key=KEY, journal=KEY, archive=KEY)
NAMED = name_successor(parts.RUN, 1, parts.AUTHORITY, parts.BEN)
NAMING = replace(COMPLETE, successors=(NAMED,))
ROTATED = replace(NAMING, key=parts.BEN.public, generation=1)
KEY_ALONE = replace(EMPTY, key=KEY)
NEW, FROM = Asked(new_run=True), Asked(recover_from="archive")


@pytest.mark.parametrize(
    ("facts", "asked", "beginning"),
    [
        (EMPTY, Asked(), NewRun(set_aside=False)),
        (COMPLETE, Asked(), Continue()),
        (COMPLETE, FROM, Recover("archive")),
        (COMPLETE, NEW, Continue()),
        (replace(COMPLETE, restored=True), Asked(), Recover(None)),
        (KEY_ALONE, FROM, Recover("archive")),
        (KEY_ALONE, NEW, NewRun(set_aside=True)),
        (replace(COMPLETE, key=None), NEW, NewRun(set_aside=True)),
        (NAMING, Asked(), Continue()),
        (replace(NAMING, key=parts.BEN.public), Asked(), Continue()),
        (replace(NAMING, key=parts.BEN.public), FROM, Recover("archive")),
        (ROTATED, Asked(), Continue()),
    ],
)
def test_a_start_goes_on(facts: FolderFacts, asked: Asked, beginning: Beginning) -> None:
    assert decide_beginning(facts, asked) == beginning


@pytest.mark.parametrize(
    ("facts", "asked", "words"),
    [
        (KEY_ALONE, Asked(), ("--recover-from", "--new-run", "coordinator restore")),
        (replace(KEY_ALONE, archive=KEY), Asked(), ("run/archive", "--recover-from")),
        (replace(COMPLETE, key=None), Asked(), ("authority.key", KEY[:8], "--new-run")),
        (replace(EMPTY, archive=KEY), Asked(), ("authority.key", KEY[:8])),
        (EMPTY, FROM, ("authority.key",)),
        (replace(COMPLETE, journal=OTHER), Asked(), (OTHER[:8], "--data-dir")),
        (replace(NAMING, key=OTHER), Asked(), (KEY[:8], "coordinator key rotate")),
        (replace(ROTATED, key=KEY), Asked(), (parts.BEN.public[:8], "nobody follows it")),
        (replace(ROTATED, key=KEY), FROM, (parts.BEN.public[:8], "nobody follows it")),
        (replace(ROTATED, key=None), Asked(), (parts.BEN.public[:8], "coordinator key rotate")),
    ],
)
def test_a_start_without_what_it_needs_names_the_way_out(
    facts: FolderFacts, asked: Asked, words: tuple[str, ...]
) -> None:
    with pytest.raises(StateError) as refused:
        decide_beginning(facts, asked)
    for word in words:
        assert word in str(refused.value)


def test_both_options_exclude_each_other() -> None:
    with pytest.raises(UserError):
        decide_beginning(COMPLETE, Asked(recover_from="archive", new_run=True))
