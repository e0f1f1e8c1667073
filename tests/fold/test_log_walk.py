"""The newest part of a log, read back from a head."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from barnraise.contract.charter import Charter
from barnraise.contract.log_entries import Change, Decay, Delegation, Resume, StandingChange
from barnraise.contract.records import Head
from barnraise.contract.schedule import NO_PROGRESS, OrderedDecay, Progress
from barnraise.contract.spec import Schedule
from barnraise.contract.tip import Position, first_position
from barnraise.core.errors import BadSignature, MalformedRecord, StateError
from barnraise.core.ids import BlobHash
from barnraise.core.signed import sign
from barnraise.fold.log import Amendment, Link, Step, check_step
from barnraise.fold.log_walk import NewestPart, newest_part
from tests.support import parts
from tests.support.parts import ADA, BEN, STRANGER

CHARTER = parts.charter(parts.run_spec(), parts.state())
PLANNED = parts.charter(parts.scheduled(parts.run_spec(), Schedule(tokens=10_000)), parts.state())
CLOSERS = tuple(sorted(closer.public for closer in (ADA, BEN, STRANGER)))


class Log:
    """A log of closes, amendments, and closes that closers voted for, without contributions' blobs."""

    def __init__(self, kinds: Sequence[str], charter: Charter = CHARTER) -> None:
        self.charter = charter
        self.positions = [first_position(charter)]
        self.steps: list[Step] = []
        for kind in kinds:
            self.steps.append(self._step(kind, self.positions[-1]))
            self.positions.append(self.positions[-1].after(self.steps[-1].entry))

    def _step(self, kind: str, at: Position) -> Step:
        before = self.steps[-1].certificate if self.steps else None
        if kind == "resume":
            name = at.standings.name
            return parts.amendment(Resume, at, certificate=before, standings=name, progress=at.progress)
        if kind == "ban":
            changes = (Change(key=STRANGER.public, level="banned", cause="order"),)
            return parts.amendment(StandingChange, at, certificate=before, changes=changes)
        if kind == "decay":
            return parts.amendment(Decay, at, certificate=before, rounds=2)
        if kind == "delegation":
            return parts.amendment(Delegation, at, certificate=before, closers=CLOSERS)
        commit = sign(ADA, parts.commit(ADA, round=at.round))
        place: dict[str, object] = {"epoch": at.epoch, "height": at.height, "certificate": before}
        place["standings"], place["progress"] = at.standings.name, at.progress.after([commit.value.tokens])
        link = parts.link([commit], previous=at.previous, **place)
        voted = parts.votes(link.close, ADA, BEN, ballot=1)
        return replace(link, certificate=voted) if kind == "voted" else link

    @property
    def head(self) -> Head:
        at, newest = self.positions[-1], self.steps[-1]
        return parts.head(
            round=at.round,
            epoch=at.epoch,
            height=at.height,
            entry=newest.hash,
            certificate=newest.certificate,
        )

    def part(self, closes: int) -> tuple[NewestPart, int]:
        """The newest part, and how many entries were read for it."""
        payloads = {step.hash: step.entry.payload for step in self.steps}
        lists = [at.standings for at in self.positions]
        payloads |= {each.name: each.payload for each in lists if each.name is not None}
        names: list[BlobHash] = []

        async def read(name: BlobHash) -> bytes:
            names.append(name)
            return payloads[name]

        return asyncio.run(newest_part(self.head, (), read, self.charter, closes)), len(names)


@pytest.mark.parametrize(
    ("kinds", "closes", "read"),
    [
        (["close"] * 9, 3, 4),
        (["close"] * 3, 3, 3),
        (["close"] * 3, 8, 3),
        (["close"] * 5 + ["delegation", "close"], 1, 3),
        (["close"] * 5 + ["delegation", "close", "voted"], 1, 4),
        (["close"] * 5 + ["delegation", "close", "voted", "voted", "voted"], 2, 6),
        (["delegation", "close"] + ["voted"] * 6, 2, 8),
        (["delegation", "close"] + ["voted"] * 6 + ["resume"] + ["close"] * 3, 3, 4),
        (["delegation", "close", "voted", "resume", "delegation", "close", "voted", "voted"], 2, 5),
        (["close"] * 9 + ["resume", "resume"], 2, 5),
        (["ban"] + ["close"] * 9, 3, 5),  # the list of standings is one of them
        (["close"] * 5 + ["ban"] + ["close"] * 3, 2, 4),
        (["ban"] + ["close"] * 3 + ["resume"] + ["close"] * 3, 3, 5),
    ],
)
def test_no_more_is_read_than_shows_who_certifies(kinds: list[str], closes: int, read: int) -> None:
    log = Log(kinds)
    found, reads = log.part(closes)
    assert found.start == log.positions[len(kinds) - len(found.steps)]
    assert found.steps == tuple(log.steps[len(kinds) - len(found.steps) :])
    whole = sum(isinstance(step, Link) for step in log.steps)
    assert sum(isinstance(step, Link) for step in found.steps) >= min(closes, whole)
    assert reads == read


@pytest.mark.parametrize("kinds", [["close"] * 9, ["close"] * 5 + ["resume"] + ["close"] * 3])
def test_the_tokens_of_a_planned_run_are_known_in_the_middle(kinds: list[str]) -> None:
    log = Log(kinds, PLANNED)
    found, reads = log.part(2)
    assert reads < len(kinds)
    assert found.start == log.positions[len(kinds) - len(found.steps)]
    assert found.start.progress == Progress(tokens=64 * found.start.round)


@pytest.mark.parametrize("kinds", [["close", "decay"] + ["close"] * 3, ["decay", "close", "resume", "close"]])
def test_an_ordered_decay_is_known_in_the_middle(kinds: list[str]) -> None:
    log = Log(kinds)
    found, reads = log.part(1)
    assert reads < len(kinds)
    assert found.start == log.positions[len(kinds) - len(found.steps)]
    assert found.start.progress.decay == OrderedDecay(start=kinds.index("decay") + 1, rounds=2)


def test_no_close_follows_the_end() -> None:
    log = Log(["close", "decay"] + ["close"] * 4)
    end = log.positions[-2]
    assert [at.is_over(CHARTER.spec) for at in log.positions] == [False] * 5 + [True] * 2
    with pytest.raises(StateError, match="after the run's end"):
        check_step(end, log.steps[-1], CHARTER)
    with pytest.raises(StateError, match="after the run's end"):
        log.part(1)


def test_a_second_decay_is_refused() -> None:
    log = Log(["close", "decay", "close", "decay"])
    with pytest.raises(MalformedRecord, match="ends already"):
        check_step(log.positions[-2], log.steps[-1], CHARTER)


def test_a_close_that_conceals_a_decay_is_refused() -> None:
    log = Log(["close", "decay", "close"])
    newest = log.steps[-1]
    assert isinstance(newest, Link)
    close = newest.close.model_copy(update={"progress": NO_PROGRESS})
    with pytest.raises(StateError, match="another progress"):
        check_step(log.positions[-2], Link(close, newest.commits, parts.votes(close)), CHARTER)


def test_a_close_with_other_tokens_than_its_commits_is_refused() -> None:
    log = Log(["close"] * 3, PLANNED)
    newest = log.steps[-1]
    assert isinstance(newest, Link)
    for progress in (Progress(tokens=193), Progress(tokens=128), NO_PROGRESS):
        close = newest.close.model_copy(update={"progress": progress})
        step = Link(close, newest.commits, parts.votes(close))
        with pytest.raises(StateError, match="another progress"):
            check_step(log.positions[-2], step, PLANNED)
    assert check_step(log.positions[-2], newest, PLANNED) == newest


def test_a_close_says_no_tokens_where_the_run_is_not_planned_by_them() -> None:
    log = Log(["close"])
    newest = log.steps[-1]
    assert isinstance(newest, Link)
    assert b"progress" not in newest.close.payload
    close = newest.close.model_copy(update={"progress": Progress(tokens=64)})
    with pytest.raises(StateError, match="another progress"):
        check_step(log.positions[0], Link(close, newest.commits, parts.votes(close)), CHARTER)


def test_a_resume_says_the_progress_of_its_place() -> None:
    log = Log(["close", "resume"], PLANNED)
    entry = log.steps[-1].entry
    assert isinstance(entry, Resume)
    other = entry.model_copy(update={"progress": Progress(tokens=65)})
    with pytest.raises(StateError, match="another progress"):
        check_step(log.positions[1], Amendment(other, parts.votes(other)), PLANNED)


def test_an_entry_that_others_certify_is_refused() -> None:
    log = Log(["close"] * 9)
    log.steps[-1] = replace(log.steps[-1], certificate=parts.votes(log.steps[-1].entry, STRANGER))
    with pytest.raises(BadSignature):
        log.part(3)


def test_the_beginning_is_checked_too() -> None:
    """Its certificate has a signature of another entry."""
    log = Log(["close"] * 2)
    log.steps[-1] = replace(log.steps[-1], certificate=parts.votes(log.steps[0].entry))
    with pytest.raises(BadSignature):
        log.part(1)
