"""`peer seed`: serving a downloaded checkpoint to others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from barnraise.contract.archive import CHARTER, INDEX, parse_index
from barnraise.contract.manifest import MANIFEST
from barnraise.core.errors import BadSignature, HashMismatch, MalformedRecord, Unreachable, UserError
from coordinator.store.run_store import RunStore
from peer.download.download import Downloaded, DownloadOptions, download
from peer.seed import Seeding, seed
from tests.support import parts
from tests.support.coordinators import LARGE, archive, checkpoint, files_in, opened_store, train_round
from tests.support.programs import stage
from tests.support.scripted import RecordingListener
from tests.support.websites import spoilt, website


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with opened_store(tmp_path / "coordinator") as made:
        yield made


@asynccontextmanager
async def seeded(folder: Path, port: int = 0) -> AsyncIterator[Seeding]:
    stop = asyncio.Event()
    started: asyncio.Future[Seeding] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(seed(folder, "127.0.0.1", port, stop, started.set_result))
    either: list[asyncio.Future[Any]] = [task, started]
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    try:
        yield started.result()
    finally:
        stop.set()
        await task


async def fetched(source: str, output: Path, *mirrors: str) -> Path:
    options = DownloadOptions(source, parts.AUTHORITY.public, output=output, mirrors=mirrors)
    done = await download(options, Path("/nowhere"), RecordingListener(), time.monotonic)
    assert isinstance(done, Downloaded)
    return done.folder


def test_a_downloaded_checkpoint_is_downloaded_again(store: RunStore, tmp_path: Path) -> None:
    async def work() -> None:
        first = await fetched(str(archive(store)), tmp_path / "first")
        async with seeded(first) as there:
            assert there.content == "round 0 of barn (trained)"
            second = await fetched(f"http://127.0.0.1:{there.port}", tmp_path / "second")
        assert files_in(second) == files_in(first)

    asyncio.run(work())


def test_a_seed_replaces_another_source_s_false_bytes(store: RunStore, tmp_path: Path) -> None:
    async def work() -> None:
        first = await fetched(str(archive(store)), tmp_path / "first")
        with website(archive(store), spoilt(LARGE)) as corrupt:
            async with seeded(first) as there:
                mended = await fetched(corrupt.url, tmp_path / "out", f"http://127.0.0.1:{there.port}")
        assert files_in(mended) == files_in(first)

    asyncio.run(work())


def test_a_copy_of_the_archive_is_served_as_it_is(store: RunStore, tmp_path: Path) -> None:
    train_round(store, parts.ADA)

    async def work() -> None:
        async with seeded(archive(store)) as there:
            assert there.content == "an archive of barn with 2 checkpoints"
            got = await fetched(f"http://127.0.0.1:{there.port}", tmp_path / "out")
        assert files_in(checkpoint(store, 1)).items() <= files_in(got).items()

    asyncio.run(work())


@pytest.mark.parametrize(("charter", "own"), [(True, "barnraise/barn"), (False, "barn/trained")])
def test_hub_clients_find_a_seed(store: RunStore, tmp_path: Path, charter: bool, own: str) -> None:
    async def work() -> None:
        first = await fetched(str(archive(store)), tmp_path / "first")
        if not charter:
            (first / CHARTER).unlink()
        async with (
            seeded(first) as there,
            httpx2.AsyncClient(base_url=f"http://127.0.0.1:{there.port}") as client,
        ):
            index = parse_index((await client.get(f"/{INDEX}")).content)
            file = await client.get(f"/{own}/resolve/round-0/{LARGE}")
        assert [repo.id for repo in index.repos] == [own]
        assert file.content == (checkpoint(store) / LARGE).read_bytes()

    asyncio.run(work())


def test_a_charter_of_another_key_is_ignored(store: RunStore, tmp_path: Path) -> None:
    async def work() -> None:
        first = await fetched(str(archive(store)), tmp_path / "first")
        (first / CHARTER).write_bytes(bytes(500))
        async with (
            seeded(first) as there,
            httpx2.AsyncClient(base_url=f"http://127.0.0.1:{there.port}") as client,
        ):
            assert (await client.get(f"/{CHARTER}")).status_code == 404

    asyncio.run(work())


def test_only_what_the_manifest_lists_is_served(store: RunStore, tmp_path: Path) -> None:
    async def work() -> None:
        first = await fetched(str(archive(store)), tmp_path / "first")
        (first / "diary.txt").write_text("mine", encoding="utf-8")
        async with (
            seeded(first) as there,
            httpx2.AsyncClient(base_url=f"http://127.0.0.1:{there.port}") as client,
        ):
            for path in ("diary.txt", "checkpoints/round-000000/diary.txt", "../diary.txt"):
                assert (await client.get(f"/{path}")).status_code == 404

    asyncio.run(work())


def test_no_scratch_files_remain_next_to_the_folder(store: RunStore, tmp_path: Path) -> None:
    async def work() -> None:
        (tmp_path / "mine").mkdir()
        first = await fetched(str(archive(store)), tmp_path / "mine" / "first")
        async with seeded(first):
            pass
        assert list((tmp_path / "mine").iterdir()) == [first]

    asyncio.run(work())


def test_a_damaged_checkpoint_is_not_served(store: RunStore, tmp_path: Path) -> None:
    async def work(damage: bytes) -> None:
        first = await fetched(str(archive(store)), tmp_path / "first")
        (first / LARGE).write_bytes(damage)
        async with seeded(first):
            pytest.fail("it is served")

    with pytest.raises(HashMismatch, match=LARGE):
        asyncio.run(work(b"other"))


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        (INDEX, b"{}", MalformedRecord),
        (MANIFEST, b"", MalformedRecord),
        (MANIFEST, bytes(200), BadSignature),
        ("README.md", b"hello", UserError),
    ],
)
def test_a_folder_without_archive_or_checkpoint_is_an_error(
    tmp_path: Path, name: str, data: bytes, kind: type[Exception]
) -> None:
    (tmp_path / name).write_bytes(data)

    async def work() -> None:
        async with seeded(tmp_path):
            pytest.fail("it is served")

    with pytest.raises(kind):
        asyncio.run(work())


def test_a_port_in_use_is_an_error(store: RunStore) -> None:
    async def work() -> None:
        async with seeded(archive(store)) as there, seeded(archive(store), there.port):
            pytest.fail("two listen on one port")

    with pytest.raises(Unreachable, match="cannot listen") as caught:
        asyncio.run(work())
    assert caught.value.fix == "Choose another --port."


def test_the_programs_seed_and_download_until_ctrl_c(store: RunStore, tmp_path: Path) -> None:
    with stage(tmp_path) as programs:
        seeding = programs.start(
            "seed", "peer.cli.main", "seed", str(archive(store)), "--host", "127.0.0.1", "--port", "0"
        )
        port = seeding.wait_for(r"serving an archive of barn .* on port (\d+)")[1]
        url = f"http://127.0.0.1:{port}?key={parts.AUTHORITY.public}"
        downloading = programs.start(
            "download", "peer.cli.main", "download", url, "-o", str(tmp_path / "out")
        )
        assert downloading.wait() == 0, downloading.output
        assert "every file matches what the run's key signed" in downloading.output
        seeding.interrupt()
    assert files_in(checkpoint(store)).items() <= files_in(tmp_path / "out").items()
