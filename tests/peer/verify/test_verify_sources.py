"""Checkpoints are proved over HTTP and from a folder, of adapters and whole models, by the command line."""

from __future__ import annotations

import asyncio
import http.server
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

import pytest
from click.testing import CliRunner, Result

from barnraise.contract.archive import entry_path, folder_of
from barnraise.contract.spec import DataSpec, Full, ModelSpec, RunSpec, TrainSpec
from barnraise.core.errors import HashMismatch, ModelUnavailable, Unreachable
from barnraise.fold.replay import Cause, Difference
from barnraise.gateway import listen
from barnraise.models.base_model import resolve
from barnraise.models.trainable import initial_state
from coordinator.run_folder import CHAT_TEMPLATE
from coordinator.store.journal import Journal
from coordinator.store.run_store import RunStore
from peer.archive.folder import FolderSource
from peer.cli.main import main
from peer.verify.archive_reader import TRIES
from peer.verify.evaluations import EvaluationsDiffer
from peer.verify.events import ReplayProgress
from peer.verify.proof import FromBaseModel, FromCheckpoint, Proved
from peer.verify.replay_pipeline import AHEAD
from peer.verify.verify import verify
from tests.support import parts
from tests.support.coordinators import (
    archive,
    raises_with_fix,
    served,
    session_of,
    show,
    train_round,
    with_gateway,
)
from tests.support.parts import ADA, BEN
from tests.support.programs import ROOT
from tests.support.tiny import make_tiny_model
from tests.support.verifying import (
    ADAPTER,
    KEY,
    ROUNDS,
    RecordingDisplay,
    contribution,
    differs,
    flip,
    options,
    outcome,
    proved,
    run_of,
)  # fmt: skip


class Mirror(http.server.ThreadingHTTPServer):
    """A static web server over a copy of an archive, without range requests."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), partial(_Handler, directory=str(folder)))
        self.asked: list[str] = []
        self.breaks: dict[str, int] = {}
        """How many times the response for a path is cut off."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(http.server.SimpleHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        path = self.path.removeprefix("/")
        self.server.asked.append(path)
        if self.server.breaks.get(path, 0) > 0:
            self.server.breaks[path] -= 1
            data = Path(self.translate_path(self.path)).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
            return
        super().do_GET()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def mirror_of(folder: Path) -> Iterator[Mirror]:
    with Mirror(folder) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with run_of(tmp_path_factory.mktemp("run") / "coordinator") as store:
        yield archive(store)


@pytest.fixture
def mirror(sound: Path) -> Iterator[Mirror]:
    with mirror_of(sound) as server:
        yield server


def test_a_checkpoint_is_proved_from_any_web_server(mirror: Mirror, sound: Path, tmp_path: Path) -> None:
    found = proved(options(mirror.address, key=KEY))
    assert found == proved(options(sound))
    assert proved(options(f"{mirror.address}/?key={KEY}", key=None)) == found


def test_a_checkpoint_is_proved_from_an_invite(tmp_path: Path) -> None:
    """The coordinator sends its gateway's address; both are real."""

    async def prove(store: RunStore) -> Proved | Difference | EvaluationsDiffer:
        gateway = await listen(archive(store), "127.0.0.1", 0)
        try:
            async with served(session_of(store, addresses=with_gateway(gateway.port))) as invite:
                asked = options(str(invite), key=None)
                return await verify(asked, tmp_path, RecordingDisplay(), iter(range(1000)).__next__)
        finally:
            await gateway.stop()

    with run_of(tmp_path / "run") as store:
        found = asyncio.run(prove(store))
        assert isinstance(found, Proved)
        assert (found.round, found.state, found.rounds) == (ROUNDS, store.snapshot.tip.state, ROUNDS)


def test_a_file_resumes_after_a_disconnect(mirror: Mirror, sound: Path, tmp_path: Path) -> None:
    places = [contribution(sound, 1), f"{folder_of('trained', ROUNDS)}/{ADAPTER}"]
    mirror.breaks = dict.fromkeys(places, TRIES - 1)
    assert proved(options(mirror.address)).round == ROUNDS
    assert [mirror.asked.count(path) for path in places] == [TRIES, TRIES]


def test_a_server_that_always_disconnects_is_unreachable(mirror: Mirror, sound: Path, tmp_path: Path) -> None:
    path = contribution(sound, 1)
    mirror.breaks = {path: TRIES}
    with raises_with_fix(Unreachable, 4, path):
        outcome(options(mirror.address))


def test_a_file_that_a_mirror_changed_or_lacks_is_named(sound: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(sound, tmp_path / "copy"))
    with mirror_of(copy) as mirror:
        lacking = contribution(copy, 3)
        (copy / lacking).unlink()
        found = differs(options(mirror.address))
        assert (found.what, found.where, found.cause) == ("contribution", lacking, Cause.ABSENT)
        flipped = contribution(copy, 2)
        flip(copy / flipped)
        found = differs(options(mirror.address))
        assert (found.what, found.where, found.cause) == ("contribution", flipped, Cause.SOURCE)
        (copy / entry_path(0, 1)).unlink()
        assert differs(options(mirror.address)).where == entry_path(0, 1)
        adapter = f"{folder_of('trained', ROUNDS)}/{ADAPTER}"
        flip(copy / adapter)
        assert differs(options(mirror.address)).where == adapter


def test_few_rounds_are_fetched_ahead_of_the_fold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a log of any length fits on the disk and in memory."""
    opened: set[str] = set()
    original = FolderSource.open

    def counting(source: FolderSource, path: str) -> BinaryIO:
        if path.startswith("log/"):
            opened.add(path)
        return original(source, path)

    class Watching(RecordingDisplay):
        def replayed(self, progress: ReplayProgress) -> None:
            ahead.append(len(opened) - progress.rounds)

    ahead: list[int] = []
    monkeypatch.setattr(FolderSource, "open", counting)
    with run_of(tmp_path / "run", rounds=3 * AHEAD) as store:
        proved(options(archive(store)), Watching())
    assert len(ahead) == 3 * AHEAD
    assert max(ahead) <= AHEAD + 1, "the certificate of each entry is in the next one"


@contextmanager
def whole_model_run(folder: Path) -> Iterator[tuple[RunStore, Path]]:
    """Two rounds of a tiny model with all parameters trained, and the model's folder."""
    base = make_tiny_model(folder / "model", width=16, layers=1)
    (base / CHAT_TEMPLATE).write_text("{{ messages }}", encoding="utf-8")
    shutil.copy(base / CHAT_TEMPLATE, folder / CHAT_TEMPLATE)
    first = initial_state(base, Full(), 0)
    spec = RunSpec(
        name=parts.RUN, model=ModelSpec(source="tiny-model"), data=DataSpec(source="x"),
        train=TrainSpec(target=Full()),
    )  # fmt: skip
    fingerprint = resolve(str(base), None, folder / "cache").fingerprint
    charter = parts.charter(spec, first).model_copy(update={"model_files": fingerprint})
    journal = Journal(folder / "journal.sqlite")
    try:
        store = RunStore.begin(parts.AUTHORITY, charter, first, base, folder, journal, parts.NOW)
        show(store)
        for _ in range(2):
            train_round(store, ADA, BEN)
        yield store, base
    finally:
        journal.close()


def test_a_whole_model_is_proved_from_its_base_model(tmp_path: Path) -> None:
    with whole_model_run(tmp_path) as (store, base):
        found = proved(options(archive(store), base=base))
        assert (found.rounds, found.start) == (2, FromBaseModel("tiny-model"))
        with raises_with_fix(ModelUnavailable, 3, "no base model at tiny-model", "--from 0"):
            outcome(options(archive(store)))
        assert proved(options(archive(store), start=0)).start == FromCheckpoint(0)
        with raises_with_fix(HashMismatch, 5, "fingerprint"):
            outcome(options(archive(store), base=make_tiny_model(tmp_path / "other", seed=1)))


def called(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["verify", *map(str, arguments)])


def test_the_command_prints_its_events_and_the_proof(sound: Path, tmp_path: Path) -> None:
    done = called(sound, "--key", KEY, "--cache-dir", tmp_path)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("proved: round 4 of barn, state ")
    for message in ("opening", "round 4 of barn", "initializing the adapter", "replayed 4 of 4 rounds"):
        assert message in done.stderr


def test_the_exit_status_of_a_difference_is_5(sound: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(sound, tmp_path / "copy"))
    path = contribution(copy, 1)
    flip(copy / path)
    done = called(copy, "--key", KEY, "--cache-dir", tmp_path)
    assert done.exit_code == 5, done.output
    assert done.stdout == ""
    assert f"not proved: the contribution differs: {path}" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_adapter_is_verified_without_torch(sound: Path, tmp_path: Path) -> None:
    """On a small machine, within seconds: neither the base model nor torch is needed."""
    code = (
        "import sys; from peer.cli.main import main; main(standalone_mode=False);"
        " assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "verify", sound, "--key", KEY, "--cache-dir", tmp_path],
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'proto'}"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "proved: round 4" in done.stdout
