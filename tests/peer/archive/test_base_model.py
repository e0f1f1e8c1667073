"""The base model of a run: where it comes from, and what a hostile gateway or mirror can do."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from filelock import FileLock

from barnraise.contract.archive import folder_of
from barnraise.contract.base_files import GGUF, ORIGINAL, fingerprint
from barnraise.contract.charter import Charter
from barnraise.contract.manifest import MANIFEST, FileEntry, Manifest, open_manifest
from barnraise.core.errors import (
    BadSignature,
    BarnraiseError,
    DiskFull,
    HashMismatch,
    MalformedRecord,
    ModelUnavailable,
    ModelUnreachable,
    TrustError,
)
from barnraise.core.ids import blob_hash
from barnraise.core.signed import sign
from barnraise.models.base_model import resolve
from peer.archive.base_model import BASES, BaseFinder, cached_base
from peer.archive.events import (
    BaseFromRun,
    CachedBaseDamaged,
    OnlyInRun,
    OtherProgramFetches,
    SourceDropped,
    SourceUnavailable,
)
from peer.archive.folder import FolderSource
from peer.archive.opening import open_archive
from peer.archive.reading import RunArchive, read_archive
from peer.archive.web import WebSource, web_client
from peer.timing import TIMING
from tests.support import parts
from tests.support.archives import Laid, lay_out_run
from tests.support.scripted import RecordingListener
from tests.support.tiny import make_tiny_model
from tests.support.websites import WebRequest, endless, ranged, short, spoilt, website

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def laid(tmp_path_factory: pytest.TempPathFactory) -> Laid:
    return lay_out_run(tmp_path_factory.mktemp("run"))


@dataclass
class Search:
    """A search for the base model of `archive`, into `cache`."""

    archive: str
    cache: Path
    listener: RecordingListener
    given: Path | None = None
    source: str | None = None
    """Instead of the one in the charter."""
    served_at: str | None = None
    """Where the base model is looked for, instead of `archive`."""

    def find(self) -> Path:
        return asyncio.run(self._find())

    async def _find(self) -> Path:
        async with open_archive(self.archive, parts.AUTHORITY.public) as found:
            assert isinstance(found, RunArchive)
            charter = found.charter
            if self.source is not None:
                model = charter.spec.model.model_copy(update={"source": self.source})
                charter = charter.model_copy(
                    update={"spec": charter.spec.model_copy(update={"model": model})}
                )
            finder = BaseFinder(
                charter, self.given, self.cache, self.listener, time.monotonic, replace(TIMING, lock_poll=0.0)
            )
            return await finder.find(
                lambda: open_archive(self.served_at or self.archive, parts.AUTHORITY.public)
            )


@pytest.fixture
def search(laid: Laid, tmp_path: Path) -> Search:
    return Search(str(laid.folder), tmp_path / "cache", RecordingListener())


def events(search: Search, kind: type) -> list[object]:
    return [event for event in search.listener.events if isinstance(event, kind)]


def copied(laid: Laid, folder: Path) -> Path:
    shutil.copytree(laid.folder, folder)
    return folder


def replace_manifest(archive: Path, change: Callable[[Manifest], Manifest]) -> None:
    """Sign another list of the base model's files, as only the run's key can."""
    place = archive / folder_of("base", 0) / MANIFEST
    found = open_manifest(place.read_bytes(), run=parts.RUN, signers=parts.SIGNERS).value
    place.write_bytes(sign(parts.AUTHORITY, change(found)).wire)


def test_a_model_of_the_maintainer_s_machine_is_fetched_once(search: Search, laid: Laid) -> None:
    found = search.find()
    (fetched,) = events(search, BaseFromRun)
    assert isinstance(fetched, BaseFromRun)
    assert fetched.why == OnlyInRun("tiny")
    expected = resolve(str(laid.base), None, search.cache).fingerprint
    assert resolve(str(found), None, search.cache).fingerprint == expected
    assert (found / "tokenizer_config.json").is_file()
    again = replace(search, listener=RecordingListener())
    assert again.find() == found
    assert again.listener.events == []


def test_a_given_model_comes_first_and_has_to_be_the_run_s(
    search: Search, laid: Laid, tmp_path: Path
) -> None:
    assert replace(search, given=laid.base).find() == laid.base
    other = make_tiny_model(tmp_path / "other", seed=9)
    with pytest.raises(HashMismatch) as caught:
        replace(search, given=other).find()
    assert "--base has to name exactly this run's base model" in caught.value.fix
    assert events(search, BaseFromRun) == []


def test_the_run_serves_what_the_source_does_not(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    replace(search, source="owner/name").find()
    (fetched,) = events(search, BaseFromRun)
    assert isinstance(fetched, BaseFromRun)
    assert isinstance(fetched.why, SourceUnavailable)


def test_an_archive_without_it_says_what_to_do(search: Search, laid: Laid, tmp_path: Path) -> None:
    archive = copied(laid, tmp_path / "archive")
    shutil.rmtree(archive / folder_of("base", 0))
    with pytest.raises(ModelUnavailable, match="does not serve it") as caught:
        replace(search, archive=str(archive)).find()
    assert not isinstance(caught.value, ModelUnreachable)
    assert "--base PATH" in caught.value.fix


def test_a_run_that_cannot_be_reached_may_be_reached_later(search: Search) -> None:
    with pytest.raises(ModelUnreachable) as caught:
        replace(search, served_at="http://127.0.0.1:9").find()
    assert "--base PATH" in caught.value.fix


def test_files_of_another_run_s_copy_are_not_fetched_again(search: Search, laid: Laid) -> None:
    found = search.find()
    found.rename(found.with_name("another run's key"))
    with website(laid.folder) as site:
        replace(search, archive=site.url).find()
        assert site.ranges(WEIGHTS) == []


def test_a_damaged_cache_is_fetched_again(search: Search) -> None:
    found = search.find()
    weights = bytearray((found / WEIGHTS).read_bytes())
    weights[-1] ^= 1
    (found / WEIGHTS).unlink()
    (found / WEIGHTS).write_bytes(weights)
    assert search.find() == found
    assert len(events(search, CachedBaseDamaged)) == 1


def test_the_exact_gguf_file_is_fetched_and_converted_here(
    search: Search, laid: Laid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, data = copied(laid, tmp_path / "archive"), b"GGUF and weights"
    (archive / "base" / GGUF).write_bytes(data)
    entry = FileEntry(name=GGUF, hash=blob_hash(data), size=len(data))
    replace_manifest(archive, lambda old: old.model_copy(update={"files": (*old.files, entry)}))
    monkeypatch.setattr(
        "barnraise.models.base_model.converted", lambda file, digest, cache, say: file.parent / "converted"
    )

    async def find() -> Path:
        found = await read_archive(FolderSource(archive), parts.AUTHORITY.public)
        charter = found.charter.model_copy(update={"model_files": fingerprint({GGUF: blob_hash(data)})})
        finder = BaseFinder(charter, None, search.cache, search.listener, time.monotonic)
        return await finder.find(lambda: open_archive(str(archive), parts.AUTHORITY.public))

    place = asyncio.run(find()).parent
    assert [path.name for path in place.iterdir()] == [GGUF]
    assert (place / GGUF).read_bytes() == data


def test_a_republished_config_does_not_replace_the_original(search: Search, laid: Laid) -> None:
    original = (laid.base / "config.json").read_bytes()
    assert (laid.folder / "base" / "config.json").read_bytes() != original
    assert (laid.folder / "base" / f"{ORIGINAL}config.json").read_bytes() == original
    assert (search.find() / "config.json").read_bytes() == original


# Hostile servers


def refused(search: Search, url: str, error: type[BarnraiseError]) -> BarnraiseError:
    with pytest.raises(error) as caught:
        replace(search, archive=url).find()
    kept = [path.name for path in (search.cache / BASES).rglob("*.safetensors")]
    assert kept == [], "false bytes have their final name"
    return caught.value


@pytest.mark.parametrize(
    "answer", [spoilt(WEIGHTS), spoilt("tokenizer.json"), short], ids=["weights", "tokenizer", "short"]
)
def test_other_bytes_are_refused(
    search: Search, laid: Laid, answer: Callable[[WebRequest, bytes], None]
) -> None:
    def only_base(request: WebRequest, data: bytes) -> None:
        listed = request.path.endswith((".bin", "archive.json"))
        (ranged if listed else answer)(request, data)

    with website(laid.folder, only_base) as site, pytest.raises(BarnraiseError) as caught:
        replace(search, archive=site.url).find()
    assert isinstance(caught.value, (TrustError, ModelUnavailable))
    assert cached_base(charter_of(laid), search.cache) is None


@pytest.fixture
def hostile(laid: Laid, tmp_path: Path) -> Path:
    return copied(laid, tmp_path / "hostile")


def charter_of(laid: Laid) -> Charter:
    return asyncio.run(read_archive(FolderSource(laid.folder), parts.AUTHORITY.public)).charter


def test_a_list_with_another_signature_is_refused(search: Search, hostile: Path) -> None:
    place = hostile / "base" / MANIFEST
    value = open_manifest(place.read_bytes(), run=parts.RUN, signers=parts.SIGNERS).value
    place.write_bytes(sign(parts.STRANGER, value).wire)
    with website(hostile) as site:
        refused(search, site.url, BadSignature)


@pytest.mark.parametrize("name", ["../../peer.key", "/etc/passwd", "a/b", "..", "con", ".hidden", "a\0b"])
def test_names_that_leave_the_folder_are_refused(search: Search, hostile: Path, name: str) -> None:
    """Even a list that the run's key signed cannot name them."""
    bad = FileEntry.model_construct(name=name, hash=parts.HASH_A, size=1)
    replace_manifest(hostile, lambda old: old.model_copy(update={"files": (*old.files, bad)}))
    with website(hostile) as site:
        refused(search, site.url, MalformedRecord)


def test_a_list_with_another_fingerprint_is_refused(search: Search, hostile: Path) -> None:
    def other(old: Manifest) -> Manifest:
        files = [
            file.model_copy(update={"hash": parts.HASH_B}) if file.name == WEIGHTS else file
            for file in old.files
        ]
        return old.model_copy(update={"files": tuple(files)})

    replace_manifest(hostile, other)
    with website(hostile) as site:
        assert "fingerprint" in refused(search, site.url, HashMismatch).problem


def test_another_form_is_not_a_base_model(search: Search, hostile: Path) -> None:
    trained = hostile / folder_of("trained", 120) / MANIFEST
    (hostile / "base" / MANIFEST).unlink()
    shutil.copy(trained, hostile / "base" / MANIFEST)
    with website(hostile) as site:
        refused(search, site.url, MalformedRecord)


def test_a_size_above_the_free_disk_is_refused(
    search: Search, laid: Laid, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(laid.folder)
    monkeypatch.setattr("peer.archive.checkpoint.shutil.disk_usage", lambda _: usage._replace(free=1000))
    with website(laid.folder) as site:
        assert "--cache-dir" in refused(search, site.url, DiskFull).fix


def test_a_body_without_end_is_read_only_as_far_as_the_list_says(search: Search, laid: Laid) -> None:
    def answer(request: WebRequest, data: bytes) -> None:
        (endless if request.path.endswith(".safetensors") else ranged)(request, data)

    with website(laid.folder, answer) as site:
        replace(search, archive=site.url).find()


def test_a_list_without_end_is_refused(search: Search, laid: Laid) -> None:
    def answer(request: WebRequest, data: bytes) -> None:
        (endless if request.path.endswith("/base/manifest.bin") else ranged)(request, data)

    with website(laid.folder, answer) as site:
        refused(search, site.url, MalformedRecord)


def test_a_mirror_replaces_a_gateway_that_lies(search: Search, laid: Laid, hostile: Path) -> None:
    (hostile / "base" / MANIFEST).unlink()
    (hostile / "base" / MANIFEST).write_bytes(b"no manifest")

    async def find(gateway: str, mirror: str) -> Path:
        async with web_client() as client:
            archive = await read_archive(WebSource(client, gateway), parts.AUTHORITY.public)
            archive = replace(archive, index=archive.index.model_copy(update={"mirrors": (mirror,)}))
            finder = BaseFinder(archive.charter, None, search.cache, search.listener, time.monotonic)
            return await finder._fetch(archive, OnlyInRun("tiny"), ())

    with website(hostile) as bad, website(laid.folder) as good:
        assert (asyncio.run(find(bad.url, good.url)) / WEIGHTS).is_file()
        assert bad.ranges(WEIGHTS) == []
    (dropped,) = events(search, SourceDropped)
    assert isinstance(dropped, SourceDropped)
    assert dropped.source == bad.url


# Interruptions


def test_two_programs_fetch_one_after_the_other(
    search: Search, laid: Laid, monkeypatch: pytest.MonkeyPatch
) -> None:
    bases = search.cache / BASES / charter_of(laid).model_files
    bases.mkdir(parents=True)
    other = FileLock(bases / ".lock")
    other.acquire()
    report = search.listener.report

    def released(event: object) -> None:
        report(event)  # type: ignore[arg-type]
        if isinstance(event, OtherProgramFetches):
            other.release()

    monkeypatch.setattr(search.listener, "report", released)
    search.find()
    assert len(events(search, OtherProgramFetches)) == 1


@pytest.fixture
def _cut(monkeypatch: pytest.MonkeyPatch, search: Search, laid: Laid) -> None:
    """The program dies in the middle of the weights."""

    def die(name: str, count: int) -> None:
        if name == WEIGHTS:
            raise KeyboardInterrupt

    monkeypatch.setattr(search.listener, "got", die)
    with website(laid.folder) as site, pytest.raises(KeyboardInterrupt):
        replace(search, archive=site.url).find()
    monkeypatch.undo()


@pytest.mark.usefixtures("_cut")
def test_an_interrupted_download_resumes(search: Search, laid: Laid) -> None:
    with website(laid.folder) as site:
        replace(search, archive=site.url).find()
        (asked,) = site.ranges(WEIGHTS)
        assert asked is not None
        assert not asked.startswith("bytes=0-"), "it began again"
