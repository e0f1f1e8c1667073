"""`coordinator publish` to a folder and to an fsspec file system: a mirror that is complete at any moment."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest
from click.testing import CliRunner
from fsspec.implementations.memory import MemoryFileSystem

from barnraise.contract.archive import INDEX, ArchiveIndex, entry_path, folder_of, parse_index
from barnraise.contract.close_rules import open_commits
from barnraise.contract.log_entries import Close, parse_entry
from barnraise.contract.manifest import MANIFEST, open_manifest
from barnraise.core.errors import (
    BarnraiseError,
    HashMismatch,
    TrustError,
    Unreachable,
    UserError,
)
from barnraise.core.ids import blob_hash
from coordinator.cli.main import main
from coordinator.publishing.destination import Destination
from coordinator.store.run_store import RunStore
from tests.support import parts
from tests.support.coordinators import archive, checkpoint, files_in, raises_with_fix, train_round
from tests.support.gateways import environment
from tests.support.mirrors import sent, trained, tree
from tests.support.parts import ADA, BEN
from tests.support.programs import DEADLINE, Program


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with trained(tmp_path / "run") as made:
        yield made


@pytest.fixture
def memory() -> Iterator[str]:
    MemoryFileSystem.store.clear()
    yield "memory://bucket/barn"
    MemoryFileSystem.store.clear()


def in_memory() -> dict[str, bytes]:
    fs = fsspec.filesystem("memory")
    return {path.removeprefix("/bucket/barn/"): fs.cat_file(path) for path in fs.find("/bucket/barn")}


def check_complete(store: RunStore, files: dict[str, bytes]) -> ArchiveIndex | None:
    """Check that a reader finds all that the index names, as the run signed it."""
    if INDEX not in files:
        return None
    index = parse_index(files[INDEX])
    for repo in index.repos:
        for revision in repo.revisions:
            wire = files[f"{revision.folder}/{MANIFEST}"]
            assert blob_hash(wire) == revision.manifest
            for entry in open_manifest(wire, run=parts.RUN, signers=parts.SIGNERS).value.files:
                assert blob_hash(files[f"{revision.folder}/{entry.name}"]) == entry.hash, entry.name
    for height in range(index.entries):
        close = parse_entry(files[index.path_of(height)])
        assert isinstance(close, Close)
        if close.round >= index.replay_from:
            assert all(blob_hash(files[f"contributions/{it.blob}"]) == it.blob for it in open_commits(close))
    return index


def test_a_folder_becomes_a_copy_of_the_archive(store: RunStore, tmp_path: Path) -> None:
    printed = sent(store, tmp_path / "mirror")
    assert tree(tmp_path / "mirror") == tree(archive(store))
    assert check_complete(store, tree(tmp_path / "mirror")) is not None
    assert "checkpoints/round-000002" in " ".join(printed)
    assert f"?key={parts.AUTHORITY.public}" in printed[-1]


def test_so_does_an_fsspec_file_system(store: RunStore, memory: str) -> None:
    sent(store, memory)
    assert in_memory() == tree(archive(store))


def test_only_what_is_new_is_sent(store: RunStore, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    sent(store, mirror)
    before = {path: path.stat().st_mtime_ns for path in mirror.rglob("*") if path.is_file()}
    assert sent(store, mirror)[0].startswith("0 files sent")
    train_round(store, BEN, loss=1.2)
    sent(store, mirror)
    for path, then in before.items():
        assert path.name == INDEX or path.stat().st_mtime_ns == then, f"{path} was sent again"
    assert check_complete(store, tree(mirror)) is not None


@pytest.mark.parametrize("where", ["folder", "memory"])
def test_an_interrupted_publication_is_whole_and_resumes(
    store: RunStore, tmp_path: Path, memory: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each attempt of a second publication gets one file further."""
    to = str(tmp_path / "mirror") if where == "folder" else memory
    there: Callable[[], dict[str, bytes]] = (
        (lambda: tree(tmp_path / "mirror")) if where == "folder" else in_memory
    )
    sent(store, to)
    first = check_complete(store, there())
    train_round(store, BEN, loss=1.2)
    real, room, breaks = Destination.put, 0, 0

    def put(self: Destination, source: Path, path: str) -> None:
        nonlocal room
        if room == 0:
            raise Unreachable("the connection broke", fix="Try again.")
        room -= 1
        real(self, source, path)

    monkeypatch.setattr(Destination, "put", put)
    while True:
        room = 1
        try:
            sent(store, to)
            break
        except Unreachable:
            breaks += 1
            assert check_complete(store, there()) == first, (
                "the index was sent before the files that it names"
            )
    assert breaks > 5
    last = check_complete(store, there())
    assert last is not None
    assert last.closed == 3


def test_a_mirror_keeps_what_the_run_drops(store: RunStore, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    sent(store, mirror)
    for loss in (1.2, 1.1, 1.0):
        train_round(store, ADA, loss=loss)
        sent(store, mirror)
    repo = parse_index((archive(store) / INDEX).read_bytes()).repo("trained")
    assert repo is not None
    assert not any(revision.round == 3 for revision in repo.revisions), (
        "the run kept it: the test proves nothing"
    )
    index = check_complete(store, tree(mirror))
    assert index is not None
    mirrored = index.repo("trained")
    assert mirrored is not None
    names = {revision.round: revision.names for revision in mirrored.revisions}
    assert {2, 3, 4, 5} <= names.keys()
    assert names[3] == ("round-3",), "main and latest have moved"
    assert {"main", "latest"} <= set(names[5])


def test_prune_removes_what_the_run_dropped(store: RunStore, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    sent(store, mirror)
    for loss in (1.2, 1.1, 1.0):
        train_round(store, ADA, loss=loss)
    assert any("removed" in line for line in sent(store, mirror, prune=True))
    assert tree(mirror) == tree(archive(store))


def test_one_revision_alone(store: RunStore, tmp_path: Path) -> None:
    sent(store, tmp_path / "mirror", revision="0")
    index = check_complete(store, tree(tmp_path / "mirror"))
    assert index is not None
    assert [revision.round for repo in index.repos for revision in repo.revisions] == [0]
    with raises_with_fix(UserError, 2, "no revision '7'", "the rounds"):
        sent(store, tmp_path / "mirror", revision="7")
    with raises_with_fix(UserError, 2, "no checkpoint of the form gguf", "trained"):
        sent(store, tmp_path / "mirror", forms=("gguf",))


def test_dry_run_sends_nothing(store: RunStore, tmp_path: Path) -> None:
    printed = sent(store, tmp_path / "mirror", dry=True)
    assert not (tmp_path / "mirror").exists()
    assert "would send checkpoints/round-000002" in " ".join(printed)
    assert printed[-1].startswith("nothing was sent: ")


def flip(path: Path) -> None:
    wire = bytearray(path.read_bytes())
    wire[len(wire) // 2] ^= 1
    path.unlink()  # the store holds it by a hard link
    path.write_bytes(wire)


@pytest.mark.parametrize(
    ("damaged", "kind"),
    [("tokenizer.json", HashMismatch), ("contributions", HashMismatch), ("log/0", TrustError)],
)
def test_a_damaged_file_is_named_and_not_sent(
    store: RunStore, tmp_path: Path, damaged: str, kind: type[BarnraiseError]
) -> None:
    file = checkpoint(store, 2) / damaged if "." in damaged else next((archive(store) / damaged).iterdir())
    flip(file)
    with pytest.raises(kind) as refused:
        sent(store, tmp_path / "mirror")
    assert refused.value.exit_code == 5
    assert kind is TrustError or str(file) in refused.value.problem
    found = tree(tmp_path / "mirror")
    assert file.relative_to(archive(store)).as_posix() not in found
    assert INDEX not in found


def test_damage_on_the_mirror_is_repaired(store: RunStore, tmp_path: Path) -> None:
    """A truncated file has another size; an unfinished checkpoint has no manifest."""
    mirror = tmp_path / "mirror"
    sent(store, mirror)
    (mirror / folder_of("trained", 2) / MANIFEST).unlink()
    flip(mirror / folder_of("trained", 2) / "tokenizer.json")
    (mirror / entry_path(0, 0)).write_bytes(b"half")
    sent(store, mirror)
    assert tree(mirror) == tree(archive(store))


def test_a_file_without_a_valid_manifest_is_hashed(store: RunStore, tmp_path: Path) -> None:
    """A file of the right size that no valid manifest there covers is compared by hash."""
    mirror = tmp_path / "mirror"
    sent(store, mirror)
    path = mirror / folder_of("trained", 2) / "README.md"
    old = path.read_bytes()
    there = mirror / folder_of("trained", 2) / MANIFEST
    there.write_bytes(bytes(len(there.read_bytes())))
    path.write_bytes(bytes(len(old)))
    sent(store, mirror)
    assert path.read_bytes() == old


def test_an_archive_that_changes_meanwhile_is_read_again(
    store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, rounds = Destination.put, iter([1.2, 1.1])

    def put(self: Destination, source: Path, path: str) -> None:
        real(self, source, path)
        for loss in rounds:  # all of them at the first file: what was to be sent is dropped by then
            train_round(store, ADA, loss=loss)

    monkeypatch.setattr(Destination, "put", put)
    sent(store, tmp_path / "mirror")
    index = check_complete(store, tree(tmp_path / "mirror"))
    assert index is not None
    assert index.closed == 4


def test_the_command_line(store: RunStore, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["publish", str(store.folder), "--to", str(tmp_path / "mirror")])
    assert done.exit_code == 0, done.output
    assert tree(tmp_path / "mirror") == tree(archive(store))
    done = CliRunner().invoke(main, ["publish", str(tmp_path / "none"), "--to", "x"])
    assert done.exit_code == 2
    assert "no archive in" in done.stderr


def test_behind_a_plain_web_server_it_is_a_mirror(store: RunStore, tmp_path: Path) -> None:
    """Python's own web server, and `peer download` as a process of its own."""
    mirror = tmp_path / "mirror"
    sent(store, mirror)
    server = subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(mirror)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment(),
    )  # fmt: skip
    try:
        assert server.stdout is not None
        port = server.stdout.readline().split(" port ")[1].split()[0]
        address = f"http://127.0.0.1:{port}/?key={parts.AUTHORITY.public}"
        peer = Program("peer", "peer.cli.main", "download", address, "-o", str(tmp_path / "got"))
        assert peer.wait() == 0, peer.output
    finally:
        server.kill()
        server.wait(DEADLINE)
        if server.stdout is not None:
            server.stdout.close()
    assert files_in(tmp_path / "got").items() >= {
        (name, data) for name, data in files_in(checkpoint(store, 2)).items() if name != "manifest.json"
    }
