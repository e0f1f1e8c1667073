"""Real gateways for tests: in a thread of this process, or as a separate process that can be killed."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

from barnraise.contract.archive import (
    CHARTER,
    INDEX,
    ArchiveIndex,
    Repo,
    Revision,
    contribution_path,
    entry_path,
)
from barnraise.contract.manifest import (
    MANIFEST,
    MANIFEST_JSON,
    FileEntry,
    Manifest,
    manifest_json,
    position_fields,
)
from barnraise.contract.tip import Position
from barnraise.core.ids import BlobHash, Round, blob_hash
from barnraise.core.signed import sign
from barnraise.gateway import LIMITS, GatewayLimits, listen
from tests.support import parts
from tests.support.programs import DEADLINE, ROOT

REPO = "ada/barn"
FOLDER = "checkpoints/round-000012"
BLOB = b"a contribution"


def lay_out_files(
    folder: Path, files: Mapping[str, bytes], *, names: tuple[str, ...] = ("main",)
) -> Revision:
    """An archive with one checkpoint of `files`, of round 12, and the other files of every archive."""
    place = folder / FOLDER
    for each in (place, folder / "log", folder / "contributions"):
        each.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (place / name).write_bytes(data)
    entries = tuple(FileEntry(name=n, hash=blob_hash(data), size=len(data)) for n, data in files.items())
    manifest = Manifest(
        form="trained", run=parts.RUN, state=parts.HASH_A, charter=parts.HASH_A, tokens=0, held_out=None,
        files=entries, **position_fields(Position(Round(12), BlobHash(parts.HASH_A))),
    )  # fmt: skip
    signed = sign(parts.AUTHORITY, manifest)
    (place / MANIFEST).write_bytes(signed.wire)
    (place / MANIFEST_JSON).write_bytes(manifest_json(signed))
    (folder / CHARTER).write_bytes(b"the charter")
    entry = folder / entry_path(0, 0)
    entry.parent.mkdir(parents=True, exist_ok=True)
    entry.write_bytes(b"a close")
    (folder / contribution_path(blob_hash(BLOB))).write_bytes(BLOB)
    revision = Revision(folder=FOLDER, manifest=blob_hash(signed.wire), round=12, names=("round-12", *names))
    write_index(folder, Repo(id=REPO, kind="model", form="trained", revisions=(revision,)))
    return revision


def write_index(folder: Path, *repos: Repo) -> None:
    index = ArchiveIndex(
        version=2, run=parts.RUN, authority=parts.AUTHORITY.public, closed=1, replay_from=0, repos=repos
    )
    new = folder / f"{INDEX}.new"
    new.write_text(index.model_dump_json(), encoding="utf-8")
    new.replace(folder / INDEX)


@contextmanager
def served(folder: Path, limits: GatewayLimits = LIMITS) -> Iterator[str]:
    """The address of a gateway over `folder`, in a thread."""
    started: Future[int] = Future()
    loop = asyncio.new_event_loop()
    end = asyncio.Event()

    async def serve() -> None:
        listening = await listen(folder, "127.0.0.1", 0, limits=limits)
        started.set_result(listening.port)
        await end.wait()
        await listening.stop()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        yield f"http://127.0.0.1:{started.result(DEADLINE)}"
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join(DEADLINE)
        loop.close()


class GatewayProcess:
    """A gateway that can be killed, and started again on its port."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.gateways", str(folder), str(port)],
            cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(DEADLINE)
        if self._process.stdout is not None:
            self._process.stdout.close()


def environment() -> dict[str, str]:
    """The environment of a process with the same import paths."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


async def _serve(folder: Path, port: int) -> None:
    listening = await listen(folder, "127.0.0.1", port)
    print(listening.port, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), int(sys.argv[2])))
