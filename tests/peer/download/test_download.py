"""`peer download` from a coordinator: complete or refused, and resumable."""

from __future__ import annotations

import asyncio
import errno
import json
import time
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import pytest

from barnraise.contract.archive import CHARTER, INDEX
from barnraise.contract.endpoints import Endpoint
from barnraise.contract.invite import Invite
from barnraise.contract.manifest import MANIFEST
from barnraise.core.errors import (
    BadSignature,
    DiskFull,
    InviteError,
    MachineError,
    Unreachable,
    UserError,
    WrongRunKey,
)
from barnraise.core.ids import RunId
from barnraise.core.reason import Reason
from barnraise.gateway import listen
from coordinator.store.run_store import RunStore
from peer.archive import partial_file as parts_module
from peer.archive.events import SourceRetried
from peer.archive.sources import Missing
from peer.download.download import DownloadOptions, download
from peer.download.events import DownloadStarts
from tests.support import parts
from tests.support.coordinators import (
    LARGE,
    archive,
    checkpoint,
    files_in,
    train_round,
    unused_port,
    with_key,
)
from tests.support.downloading import all_of, get, got, in_folder
from tests.support.gateways import GatewayProcess
from tests.support.scripted import NO_PAUSES, RecordingListener
from tests.support.websites import spoilt, website


def test_a_checkpoint_is_downloaded_complete(store: RunStore, tmp_path: Path) -> None:
    listener = RecordingListener()
    folder = got(store, tmp_path / "out", listener=listener)
    assert folder == tmp_path / "out"
    assert files_in(folder) == all_of(store)
    manifest = store.snapshot.checkpoints[0].value
    assert listener.events == [DownloadStarts(parts.RUN, 0, False, len(manifest.files), manifest.size)]
    assert sorted(listener.whole) == sorted(set(all_of(store)) - {CHARTER, MANIFEST, "manifest.json"})


def test_the_default_folder_names_run_and_round(
    store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert get(DownloadOptions(str(archive(store)), key=parts.AUTHORITY.public)) == Path("barn-round-000000")


@pytest.mark.parametrize(
    ("revision", "round"), [("main", 1), ("latest", 1), ("0", 0), ("round-0", 0), ("round-000001", 1)]
)
def test_a_revision_is_found_by_name(store: RunStore, tmp_path: Path, revision: str, round: int) -> None:
    train_round(store, parts.ADA)
    assert files_in(got(store, tmp_path / "out", revision)) == all_of(store, round)


def test_a_revision_can_be_a_commit(store: RunStore, tmp_path: Path) -> None:
    train_round(store, parts.ADA)
    index = json.loads((archive(store) / INDEX).read_bytes())
    commit = index["repos"][0]["revisions"][0]["manifest"][:40]
    assert files_in(in_folder(store, tmp_path / "out", revision=commit)) == all_of(store, 0)


def test_the_error_of_an_unknown_revision_lists_the_known_ones(store: RunStore, tmp_path: Path) -> None:
    train_round(store, parts.ADA)
    with pytest.raises(UserError, match="has no revision '7'") as unknown:
        got(store, tmp_path / "out", "7")
    assert "the rounds 0, 1" in unknown.value.fix
    assert not (tmp_path / "out").exists()


def test_an_invite_with_another_key_is_refused(store: RunStore, tmp_path: Path) -> None:
    with pytest.raises(WrongRunKey):
        got(store, tmp_path / "out", invite=lambda it: with_key(it, parts.STRANGER.public))
    assert not (tmp_path / "out").exists()


def test_an_invite_to_another_run_is_refused(store: RunStore, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="serves the run barn"):
        got(store, tmp_path / "out", invite=lambda it: Invite(it.endpoints, RunId("shed"), it.key))


@pytest.mark.parametrize("with_mirror", [True, False])
def test_a_mirror_is_enough_where_the_coordinator_is_away(
    store: RunStore, tmp_path: Path, with_mirror: bool
) -> None:
    away = Invite((Endpoint("127.0.0.1", unused_port()),), RunId("barn"), parts.AUTHORITY.public)

    async def ask() -> None:
        gateway = await listen(archive(store), "127.0.0.1", 0)
        dead, copy = f"http://127.0.0.1:{unused_port()}", f"http://127.0.0.1:{gateway.port}"
        mirrors = (dead, copy) if with_mirror else (dead,)
        options = DownloadOptions(str(away), mirrors=mirrors, output=tmp_path / "out")
        try:
            await download(options, Path("/nowhere"), RecordingListener(), time.monotonic, NO_PAUSES)
        finally:
            await gateway.stop()

    if with_mirror:
        asyncio.run(ask())
        assert files_in(tmp_path / "out") == all_of(store)
        return
    with pytest.raises(Unreachable, match="no coordinator answers") as unreachable:
        asyncio.run(ask())
    assert f"?key={away.key}" in unreachable.value.fix


def test_a_mirror_with_a_false_index_does_not_hide_the_next(store: RunStore, tmp_path: Path) -> None:
    away = Invite((Endpoint("127.0.0.1", unused_port()),), RunId("barn"), parts.AUTHORITY.public)
    with website(archive(store), spoilt(INDEX)) as false, website(archive(store)) as true:
        get(DownloadOptions(str(away), mirrors=(false.url, true.url), output=tmp_path / "out"))
    assert files_in(tmp_path / "out") == all_of(store)


def test_an_archive_of_another_key_is_refused(store: RunStore, tmp_path: Path) -> None:
    with pytest.raises(BadSignature, match="where only"):
        get(DownloadOptions(str(archive(store)), key=parts.STRANGER.public, output=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_folder_needs_a_key(store: RunStore) -> None:
    with pytest.raises(InviteError, match="whose signature to check") as caught:
        get(DownloadOptions(str(archive(store))))
    assert "--key" in caught.value.fix


def test_a_folder_s_key_can_be_an_invite(store: RunStore, tmp_path: Path) -> None:
    invite = str(Invite((Endpoint("127.0.0.1", 9),), parts.RUN, parts.AUTHORITY.public))
    assert files_in(get(DownloadOptions(str(archive(store)), key=invite, output=tmp_path / "out"))) == all_of(
        store
    )


def test_complete_files_are_not_fetched_again(store: RunStore, tmp_path: Path) -> None:
    folder = got(store, tmp_path / "out")
    (folder / "README.md").write_text("changed", encoding="utf-8")
    listener = RecordingListener()
    assert files_in(got(store, tmp_path / "out", listener=listener)) == all_of(store)
    assert listener.whole == ["README.md"]


def test_a_folder_can_change_to_another_round(store: RunStore, tmp_path: Path) -> None:
    folder = got(store, tmp_path / "out")
    train_round(store, parts.ADA)
    assert files_in(got(store, tmp_path / "out")) == all_of(store, 1)
    (checkpoint(store, 0) / LARGE).unlink()
    (folder / LARGE).unlink()
    with pytest.raises(Missing):
        got(store, tmp_path / "out", "0")
    assert MANIFEST not in files_in(folder), "the manifest of round 1 lists files of two rounds"


@pytest.mark.parametrize("restarts", [True, False], ids=["at once", "by the next command"])
def test_a_download_survives_a_killed_gateway(store: RunStore, tmp_path: Path, restarts: bool) -> None:
    (store.folder / "base" / LARGE).write_bytes(bytes(48 * 2**20))  # more than the buffers on the way hold
    train_round(store, parts.ADA)
    first = GatewayProcess(archive(store))
    running = [first]

    class Killing(RecordingListener):
        def got(self, name: str, count: int) -> None:
            super().got(name, count)
            if self.counts[name] > 8 * 2**20 and running == [first]:
                running.pop().kill()

        def report(self, event: Reason) -> None:
            super().report(event)
            if restarts and isinstance(event, SourceRetried) and not running:
                running.append(GatewayProcess(archive(store), first.port))

    listener = Killing()
    options = DownloadOptions(f"{first.url}?key={parts.AUTHORITY.public}", output=tmp_path / "out")
    if not restarts:
        with pytest.raises(Unreachable, match="cannot be read"):
            get(options, listener)
        assert not (tmp_path / "out" / LARGE).exists(), "half a file has its final name"
        running.append(GatewayProcess(archive(store), urlsplit(first.url).port or 0))
        listener = Killing()
    try:
        assert files_in(get(options, listener)) == all_of(store, 1)
    finally:
        running.pop().kill()
    assert listener.counts[LARGE] == 48 * 2**20, "bytes were fetched twice, or not at all"
    assert listener.resumed == (set() if restarts else {LARGE})


def test_a_full_disk_is_an_error_and_the_next_command_resumes(
    store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = 300_000
    true = parts_module.open_for_parts

    class Full:
        """A file on a disk with little space."""

        def __init__(self, file: BinaryIO) -> None:
            self._file = file

        def __getattr__(self, name: str) -> object:
            return getattr(self._file, name)

        def write(self, data: memoryview) -> int:
            nonlocal room
            if not room:
                raise OSError(errno.ENOSPC, "No space left on device")
            taken = self._file.write(data[:room])
            room -= taken
            return taken

    monkeypatch.setattr(parts_module, "open_for_parts", lambda path: Full(true(path)))
    with pytest.raises(DiskFull, match="no space left") as full:
        got(store, tmp_path / "out")
    assert full.value.exit_code == 3
    assert LARGE not in files_in(tmp_path / "out")
    assert MANIFEST not in files_in(tmp_path / "out")
    room = 10**9
    listener = RecordingListener()
    assert files_in(got(store, tmp_path / "out", listener=listener)) == all_of(store)
    assert listener.resumed == {LARGE}


def test_too_little_disk_space_is_an_error_before_the_first_request(
    store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 1000

    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage)
    with pytest.raises(DiskFull, match=r"needs .* more, its disk has 1 kB left"):
        got(store, tmp_path / "out")
    assert files_in(tmp_path / "out") == {}


def test_a_file_in_place_of_the_folder_is_an_error(store: RunStore, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine", encoding="utf-8")
    with pytest.raises(MachineError, match="cannot write"):
        got(store, tmp_path / "out")
    assert (tmp_path / "out").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    "source",
    [
        "https://example.org/barn",
        "http://example.org/barn?key=abc",
        "http://[1/x?key=" + "a" * 64,
        "ftp://example.org/barn?key=" + "a" * 64,
        "barn",
        "",
    ],
)
def test_an_invalid_source_is_an_error(source: str, tmp_path: Path) -> None:
    with pytest.raises(InviteError) as caught:
        get(DownloadOptions(source, output=tmp_path / "out"))
    assert caught.value.exit_code == 2
