"""Archives to verify, and the outcomes of verifying them, for tests."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from barnraise.contract.archive import CHARTER, contribution_path, entry_path
from barnraise.contract.charter import Charter
from barnraise.contract.close_rules import open_commits
from barnraise.contract.log_entries import Close, parse_entry
from barnraise.contract.records import blob_name
from barnraise.contract.spec import RunSpec
from barnraise.core.signed import open_signed
from barnraise.fold.log import Link
from barnraise.fold.replay import Difference
from coordinator.store.run_store import RunStore
from peer.verify.evaluations import EvaluationsDiffer
from peer.verify.events import ReplayProgress, VerifyEvent
from peer.verify.proof import Proved
from peer.verify.verify import SCRATCH, VerifyOptions, verify
from tests.support import parts
from tests.support.coordinators import opened_store, train_round
from tests.support.golden_log import genesis, spec_of
from tests.support.parts import ADA, AUTHORITY, BEN

ROUNDS = 4
SPEC = spec_of("nesterov dense4")
KEY = AUTHORITY.public
ADAPTER = "adapter_model.safetensors"


class RecordingDisplay:
    """Records what a verification reports."""

    def __init__(self) -> None:
        self.events: list[VerifyEvent] = []
        self.progress: list[ReplayProgress] = []

    def __enter__(self) -> RecordingDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def report(self, event: VerifyEvent) -> None:
        self.events.append(event)

    def file(self, name: str, length: int, got: int) -> None:
        return

    def got(self, name: str, count: int) -> None:
        return

    def again(self, name: str) -> None:
        return

    def done(self, name: str) -> None:
        return

    def say(self, text: str) -> None:
        return

    def replayed(self, progress: ReplayProgress) -> None:
        self.progress.append(progress)


@contextmanager
def run_of(folder: Path, rounds: int = ROUNDS, spec: RunSpec = SPEC) -> Iterator[RunStore]:
    with opened_store(folder, spec, genesis(spec)) as store:
        for _ in range(rounds):
            train_round(store, ADA, BEN)
        yield store


def options(source: Path | str, **other: object) -> VerifyOptions:
    plain = VerifyOptions(source=str(source), log=None, key=KEY, revision="main", start=None, base=None)
    return replace(plain, **other)  # type: ignore[arg-type]


def outcome(
    asked: VerifyOptions, display: RecordingDisplay | None = None
) -> Proved | Difference | EvaluationsDiffer:
    with tempfile.TemporaryDirectory() as name:
        cache = Path(name)
        try:
            return asyncio.run(
                verify(asked, cache, display or RecordingDisplay(), iter(range(1000)).__next__)
            )
        finally:
            assert not list(cache.glob(f"{SCRATCH}/*")), "scratch files remain"


def proved(asked: VerifyOptions, display: RecordingDisplay | None = None) -> Proved:
    found = outcome(asked, display)
    assert isinstance(found, Proved), found
    return found


def differs(asked: VerifyOptions) -> Difference:
    found = outcome(asked)
    assert isinstance(found, Difference), found
    return found


def flip(path: Path, place: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def link(folder: Path, round: int) -> Link:
    charter = open_signed(Charter, (folder / CHARTER).read_bytes(), signer=AUTHORITY.public).value
    close = parse_entry(entry_file(folder, round).read_bytes())
    assert isinstance(close, Close)
    assert close.run == charter.run
    return Link(close, open_commits(close), parts.votes(close))


def entry_file(folder: Path, height: int) -> Path:
    """The file of an entry of epoch 0. Without amendments its height is its round."""
    return folder / entry_path(0, height)


def contribution(folder: Path, round: int) -> str:
    """The path of a round's second contribution."""
    return contribution_path(blob_name(link(folder, round).commits[1]))
