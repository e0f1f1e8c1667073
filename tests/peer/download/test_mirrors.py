"""`peer download` from mirrors: web servers with a copy of an archive, or of one checkpoint."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from barnraise.contract.archive import CHARTER, INDEX
from barnraise.contract.manifest import MANIFEST, MANIFEST_JSON, FileEntry, Manifest
from barnraise.core.errors import BadSignature, HashMismatch, MalformedRecord, Unreachable, UserError
from barnraise.core.ids import PublicKey
from barnraise.core.signed import sign
from barnraise.runtime.files import UNFINISHED
from coordinator.store.run_store import RunStore
from peer.archive.events import SourceDropped, SourceRetried
from peer.archive.partial_file import SAVE_EVERY_BYTES
from peer.archive.sources import Missing
from peer.download.download import Downloaded, DownloadOptions, download
from peer.download.select import Format
from tests.support import parts
from tests.support.coordinators import (
    LARGE,
    archive,
    checkpoint,
    files_in,
    train_round,
    unused_port,
)
from tests.support.programs import DEADLINE, stage
from tests.support.scripted import NO_PAUSES, RecordingListener
from tests.support.websites import WebRequest, endless, ranged, short, spoilt, torn, unranged, website

Answer = Callable[[WebRequest, bytes], None]


def get(
    url: str,
    output: Path,
    *mirrors: str,
    key: PublicKey = parts.AUTHORITY.public,
    listener: RecordingListener | None = None,
    revision: str = "main",
    form: Format | None = None,
) -> Path:
    options = DownloadOptions(
        f"{url}?key={key}", revision=revision, format=form, mirrors=mirrors, output=output
    )
    done = asyncio.run(
        download(options, Path("/nowhere"), listener or RecordingListener(), time.monotonic, NO_PAUSES)
    )
    assert isinstance(done, Downloaded)
    return done.folder


def only(name: str, answer: Answer) -> Answer:
    """Answer requests for one file by `answer`, all others correctly."""
    return lambda request, data: (answer if request.path.endswith(f"/{name}") else ranged)(request, data)


def once(name: str, answer: Answer, then: Answer = ranged) -> Answer:
    """Answer the first request for a file by `answer`, later requests by `then`."""

    def first(request: WebRequest, data: bytes) -> None:
        request.site.answer = then
        answer(request, data)

    return only(name, first)


@pytest.mark.parametrize(
    "answer", [ranged, unranged, only(LARGE, endless)], ids=["good", "simple", "endless"]
)
@pytest.mark.parametrize("alone", [True, False], ids=["a checkpoint", "an archive"])
def test_a_web_server_serves_the_same_files(
    store: RunStore, tmp_path: Path, answer: Answer, alone: bool
) -> None:
    with website(checkpoint(store) if alone else archive(store), answer) as site:
        folder = get(site.url, tmp_path / "out")
    charter = {} if alone else {CHARTER: (archive(store) / CHARTER).read_bytes()}
    assert files_in(folder) == files_in(checkpoint(store)) | charter


def test_a_lone_checkpoint_has_one_revision_and_one_form(store: RunStore, tmp_path: Path) -> None:
    train_round(store, parts.ADA)
    with website(checkpoint(store, 1)) as site:
        for number, revision in enumerate(["main", "latest", "1", "round-1"]):
            get(site.url, tmp_path / str(number), revision=revision)
        with pytest.raises(UserError, match="no revision '0'"):
            get(site.url, tmp_path / "out", revision="0")
        with pytest.raises(UserError, match="published no base form"):
            get(site.url, tmp_path / "out", form="base")


@pytest.mark.parametrize("answer", [ranged, unranged], ids=["good", "simple"])
def test_a_file_resumes_after_a_broken_connection(store: RunStore, tmp_path: Path, answer: Answer) -> None:
    listener = RecordingListener()
    with website(checkpoint(store), once(LARGE, torn, answer)) as site:
        whole = (checkpoint(store) / LARGE).read_bytes()
        get(site.url, tmp_path / "out", listener=listener)
        assert files_in(tmp_path / "out") == files_in(checkpoint(store))
        first, second = site.ranges(LARGE)
    assert first == f"bytes=0-{len(whole) - 1}"
    assert second is not None
    start = int(second.removeprefix("bytes=").partition("-")[0])
    assert 0 < start <= len(whole) // 2
    assert any(isinstance(event, SourceRetried) for event in listener.events)
    assert listener.counts[LARGE] == len(whole)


@pytest.mark.parametrize("answer", [short, torn])
def test_a_server_that_always_disconnects_is_dropped(store: RunStore, tmp_path: Path, answer: Answer) -> None:
    def nothing_more(request: WebRequest, data: bytes) -> None:
        if request.wanted[0]:
            request.send_error(503)
        else:
            answer(request, data)

    with (
        website(checkpoint(store), only(LARGE, nothing_more)) as site,
        pytest.raises(Unreachable, match="503"),
    ):
        get(site.url, tmp_path / "out")
    assert not (tmp_path / "out" / LARGE).exists()


def test_the_error_of_a_flipped_byte_names_file_and_server(store: RunStore, tmp_path: Path) -> None:
    with website(checkpoint(store), spoilt(LARGE)) as site:
        with pytest.raises(HashMismatch, match=f"{LARGE} of {site.url}"):
            get(site.url, tmp_path / "out")
        assert len(site.ranges(LARGE)) == 1
    assert LARGE not in files_in(tmp_path / "out")


@pytest.mark.parametrize("alone", [True, False], ids=["a checkpoint", "an archive"])
def test_a_mirror_replaces_a_source_with_false_bytes(store: RunStore, tmp_path: Path, alone: bool) -> None:
    copy = checkpoint(store) if alone else archive(store)
    with website(archive(store), spoilt(LARGE)) as corrupt, website(copy) as mirror:
        folder = get(corrupt.url, tmp_path / "out", mirror.url)
    assert (folder / LARGE).read_bytes() == (checkpoint(store) / LARGE).read_bytes()
    assert MANIFEST in files_in(folder)


def test_a_mirror_with_false_bytes_does_no_harm(store: RunStore, tmp_path: Path) -> None:
    with website(archive(store)) as true, website(archive(store), spoilt(LARGE)) as corrupt:
        folder = get(true.url, tmp_path / "out", corrupt.url)
    assert (folder / LARGE).read_bytes() == (checkpoint(store) / LARGE).read_bytes()


def test_unusable_mirrors_are_dropped_with_a_reason(store: RunStore, tmp_path: Path) -> None:
    train_round(store, parts.ADA)
    (tmp_path / "empty").mkdir()
    listener = RecordingListener()
    gone = f"http://127.0.0.1:{unused_port()}"
    with (
        website(archive(store), only(LARGE, slowly(listener, 3))) as true,
        website(tmp_path / "empty") as empty,
        website(checkpoint(store, 0)) as other,
    ):
        get(true.url, tmp_path / "out", empty.url, other.url, gone, listener=listener)
    problems = {event.source: event.problem for event in dropped(listener)}
    assert problems[empty.url] == f"{empty.url} has no such checkpoint"
    assert problems[other.url] == f"{other.url} has another checkpoint"
    assert problems[gone].startswith(f"{gone}/")


def dropped(listener: RecordingListener) -> list[SourceDropped]:
    return [event for event in listener.events if isinstance(event, SourceDropped)]


def slowly(listener: RecordingListener, count: int) -> Answer:
    """Answer after `count` sources were dropped."""

    def answer(request: WebRequest, data: bytes) -> None:
        listener.wait_until(lambda: len(dropped(listener)) >= count)
        ranged(request, data)

    return answer


def test_mirrors_that_the_archive_names_are_used(store: RunStore, tmp_path: Path) -> None:
    with website(checkpoint(store)) as seed:
        index = json.loads((archive(store) / INDEX).read_bytes()) | {
            "mirrors": [seed.url, "file:///etc", "x"]
        }
        (archive(store) / INDEX).write_text(json.dumps(index), encoding="utf-8")
        with website(archive(store), spoilt(LARGE)) as corrupt:
            folder = get(corrupt.url, tmp_path / "out")
    assert (folder / LARGE).read_bytes() == (checkpoint(store) / LARGE).read_bytes()


def test_a_mirror_of_another_key_is_refused(store: RunStore, tmp_path: Path) -> None:
    with website(checkpoint(store)) as site, pytest.raises(BadSignature, match="not a key of the run"):
        get(site.url, tmp_path / "out", key=parts.STRANGER.public)


@pytest.mark.parametrize("name", ["../escaped", "/escaped", "a/b", ".hidden", "nul", "COM1.txt", "a."])
def test_an_unsafe_file_name_is_refused_although_it_is_signed(
    store: RunStore, tmp_path: Path, name: str
) -> None:
    true = store.snapshot.newest_checkpoint.value
    entry = FileEntry.model_construct(name=name, hash=true.files[0].hash, size=true.files[0].size)
    hostile = Manifest.model_construct(**{**dict(true), "files": (entry,)})
    shutil.copytree(checkpoint(store), tmp_path / "copy")
    (tmp_path / "copy" / MANIFEST).write_bytes(sign(parts.AUTHORITY, hostile).wire)
    with website(tmp_path / "copy") as site, pytest.raises(MalformedRecord, match="plain"):
        get(site.url, tmp_path / "out")
    assert [path for path, _ in site.asked] == [f"/{INDEX}", f"/{MANIFEST}"]
    assert not (tmp_path / "out").exists()


def test_a_server_without_archive_or_checkpoint_is_an_error(tmp_path: Path) -> None:
    with (
        website(tmp_path) as site,
        pytest.raises(Missing, match=f"no {INDEX} .* no {MANIFEST} of a checkpoint"),
    ):
        get(site.url, tmp_path / "out")


def test_a_killed_program_resumes_its_download(store: RunStore, tmp_path: Path) -> None:
    (store.folder / "base" / LARGE).write_bytes(bytes(48 * 2**20))  # half exceeds the buffers on the way
    train_round(store, parts.ADA)
    halfway = threading.Event()

    def half(request: WebRequest, data: bytes) -> None:
        request.begin(200, len(data))
        request.wfile.write(data[: len(data) // 2])
        halfway.set()
        request.site.over.wait()
        request.close_connection = True

    with stage(tmp_path) as programs, website(checkpoint(store, 1), once(LARGE, half)) as site:
        command = ["download", f"{site.url}?key={parts.AUTHORITY.public}", "-o", str(tmp_path / "out")]
        first = programs.start("first", "peer.cli.main", *command)
        assert halfway.wait(DEADLINE)
        first.kill()
        assert not (tmp_path / "out" / LARGE).exists()
        second = programs.start("second", "peer.cli.main", *command)
        assert second.wait() == 0, second.output
        again = site.ranges(LARGE)[1]
    assert again is not None
    assert int(again.removeprefix("bytes=").partition("-")[0]) >= SAVE_EVERY_BYTES
    assert f"{LARGE}: resuming after" in second.output
    assert files_in(tmp_path / "out") == files_in(checkpoint(store, 1))


def test_what_a_killed_download_left_unfinished_is_removed(store: RunStore, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name in (f".{LARGE}.part.json", MANIFEST, MANIFEST_JSON, CHARTER):
        (out / f"{UNFINISHED}{name}-killed").write_bytes(b"{")
    (out / f"{UNFINISHED}of-another-program").write_bytes(b"its own")
    with website(archive(store)) as site:
        get(site.url, out)
    assert {name for name in files_in(out) if name.startswith(UNFINISHED)} == {
        f"{UNFINISHED}of-another-program"
    }
