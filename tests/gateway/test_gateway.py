"""The gateway over real HTTP: files, ranges, conditions, errors, and files that it must not serve."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from barnraise.contract.archive import INDEX, Repo, Revision, parse_index
from barnraise.contract.manifest import MANIFEST
from barnraise.core.errors import Unreachable
from barnraise.core.ids import blob_hash
from barnraise.gateway import listen
from barnraise.gateway.archive_folder import ArchiveFolder
from tests.support.gateways import BLOB, FOLDER, REPO, lay_out_files, served, write_index

WEIGHTS = os.urandom(3_000_000)
CARD = b"# barn\n<script>alert(1)</script>\n"
FILES = {"README.md": CARD, "model.safetensors": WEIGHTS, "empty.txt": b"", "config.json": b"{}"}
TAG = f'"{blob_hash(WEIGHTS)}"'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    lay_out_files(folder, FILES)
    return folder


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[httpx2.Client]:
    with served(folder) as url, httpx2.Client(base_url=url, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def revision(folder: Path) -> Revision:
    return parse_index((folder / INDEX).read_bytes()).repos[0].revisions[0]


def resolve(name: str, revision: str = "main") -> str:
    return f"/{REPO}/resolve/{revision}/{name}"


def test_every_file_is_served_unchanged(client: httpx2.Client, folder: Path) -> None:
    names = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    assert len(names) == len(FILES) + 6
    for name in names:
        found = client.get(f"/{name}")
        assert (found.status_code, found.content) == (200, (folder / name).read_bytes()), name
        head = client.head(f"/{name}")
        assert head.status_code == 200
        assert head.content == b""
        for header in ("content-length", "etag", "last-modified", "accept-ranges", "content-type"):
            assert head.headers[header] == found.headers[header]


@pytest.mark.parametrize("place", [f"/{FOLDER}/model.safetensors", resolve("model.safetensors")])
def test_the_etag_of_a_file_is_its_hash(client: httpx2.Client, place: str) -> None:
    found = client.get(place)
    assert found.headers["etag"] == TAG
    assert found.headers["content-length"] == str(len(WEIGHTS))
    part = client.get(place, headers={"Range": "bytes=1000-1999"})
    assert (part.status_code, part.content) == (206, WEIGHTS[1000:2000])
    assert part.headers["content-range"] == f"bytes 1000-1999/{len(WEIGHTS)}"
    assert part.headers["etag"] == TAG
    end = client.get(place, headers={"Range": "bytes=-7"})
    assert (end.status_code, end.content) == (206, WEIGHTS[-7:])
    past = client.get(place, headers={"Range": f"bytes={len(WEIGHTS)}-"})
    assert past.status_code == 416
    assert past.headers["content-range"] == f"bytes */{len(WEIGHTS)}"
    changed = client.get(place, headers={"Range": "bytes=5-", "If-Range": '"x"'})
    assert (changed.status_code, len(changed.content)) == (200, len(WEIGHTS))
    same = client.get(place, headers={"If-None-Match": TAG})
    assert (same.status_code, same.content) == (304, b"")
    assert same.headers["etag"] == TAG
    dated = client.get(place, headers={"If-Modified-Since": found.headers["last-modified"]})
    assert dated.status_code == 304
    assert client.head(place, headers={"Range": "bytes=0-0"}).headers["content-length"] == str(len(WEIGHTS))


def test_files_that_never_change_are_immutable(client: httpx2.Client, revision: Revision) -> None:
    contribution = f"/contributions/{blob_hash(BLOB)}"
    for place in (
        "/charter.bin",
        "/log/0/000000.entry",
        contribution,
        resolve("config.json", revision.commit),
    ):
        assert "immutable" in client.head(place).headers["cache-control"], place
    for place in ("/archive.json", f"/{FOLDER}/config.json", resolve("config.json"), "/"):
        assert client.head(place).headers["cache-control"] == "no-cache", place
    assert client.head(contribution).headers["etag"] == f'"{blob_hash(BLOB)}"'


def test_a_resolved_file_has_the_commit_header(client: httpx2.Client, revision: Revision) -> None:
    for name in ("main", "round-12", "12", revision.commit, revision.commit[:7]):
        assert client.head(resolve("config.json", name)).headers["x-repo-commit"] == revision.commit
    gone = client.head(resolve("nothing.json"))
    assert gone.status_code == 404
    assert gone.headers["x-repo-commit"] == revision.commit
    assert gone.headers["x-error-code"] == "EntryNotFound"
    assert client.get(resolve("config.json", "round-9")).headers["x-error-code"] == "RevisionNotFound"
    nobody = client.get("/no/body/resolve/main/config.json")
    assert nobody.headers["x-error-code"] == "RepoNotFound"
    assert nobody.headers["x-error-message"] == nobody.json()["error"]


def test_the_manifest_is_a_file_of_its_revision(client: httpx2.Client, revision: Revision) -> None:
    tree = {each["path"]: each for each in client.get(f"/api/models/{REPO}/tree/main").json()}
    assert tree[MANIFEST]["lfs"]["oid"] == revision.manifest
    for name, each in tree.items():
        data = client.get(resolve(name)).content
        assert (each["size"], each["lfs"]["oid"]) == (len(data), blob_hash(data)), name


def test_paths_info_accepts_a_form_and_json(client: httpx2.Client) -> None:
    place, wanted = f"/api/models/{REPO}/paths-info/main", ["README.md", "nothing"]
    for found in (client.post(place, data={"paths": wanted}), client.post(place, json={"paths": wanted})):
        assert [each["path"] for each in found.json()] == ["README.md"]
    for bad in (b"[1]", b"{", b'{"paths": 5}', b'{"paths": [5]}', b"[" * 100_000, b"\xff", b" " * 300_000):
        refused = client.post(place, content=bad, headers={"content-type": "application/json"})
        assert refused.status_code == 400, bad[:20]
    assert client.post(place, content=b"paths=%ff&" * 30_000).status_code == 400
    assert client.get(place).status_code == 405


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
@pytest.mark.parametrize("place", ["/", "/archive.json", f"/api/models/{REPO}", "/api/repos/create"])
def test_write_methods_are_refused(client: httpx2.Client, method: str, place: str) -> None:
    found = client.request(method, place)
    assert found.status_code == 405
    assert found.headers["allow"] == "GET, HEAD"
    assert "only reads" in found.json()["error"]


def test_there_are_no_accounts(client: httpx2.Client) -> None:
    assert client.get("/api/whoami-v2").status_code == 401


@pytest.mark.parametrize(
    "target",
    [
        "/../authority.key", "/%2e%2e/authority.key", "/base/../../authority.key",
        "/base/..%2f..%2fauthority.key", f"/{FOLDER}/..%5c..%5cauthority.key", f"/{FOLDER}/%00",
        f"/{FOLDER}/README.md%00", "/base//etc/passwd", f"/{FOLDER}//README.md", f"/{FOLDER}/.",
        f"/{FOLDER}/", f"/{FOLDER}", "//etc/passwd", "/etc/passwd", f"/{FOLDER}/.hidden", "/.lock",
        "/journal.sqlite", f"/{FOLDER}/link", f"/{FOLDER}/pipe", "/log/../base/x",
        f"/{REPO}/resolve/main/../../../authority.key", f"/{REPO}/resolve/main/..%2f..%2fauthority.key",
        f"/{REPO}/resolve/%2e%2e/authority.key", f"/{REPO}/resolve/main/%ff%fe", "/%", "/%zz", "*", "http://x/",
        f"/{FOLDER}/{'a' * 5000}", "/" + "a/" * 2000,
    ],
)  # fmt: skip
def test_files_outside_the_archive_are_not_served(client: httpx2.Client, folder: Path, target: str) -> None:
    secret = folder.parent / "authority.key"
    secret.write_bytes(b"the secret")
    for name, make in (("link", lambda path: path.symlink_to(secret)), ("pipe", os.mkfifo)):
        if not (folder / FOLDER / name).exists():
            make(folder / FOLDER / name)
    (folder / FOLDER / ".hidden").write_bytes(b"half done")
    try:
        status, body = ask(client, f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert status == 404
        assert b"secret" not in body
    finally:
        for name in ("link", "pipe", ".hidden"):
            (folder / FOLDER / name).unlink()


def ask(client: httpx2.Client, request: bytes) -> tuple[int, bytes]:
    """Send bytes that no client library would, and read to the end. Status 0: closed without a response."""
    address = client.base_url
    with socket.create_connection((address.host, address.port or 80), 60) as talk:
        talk.sendall(request)
        answer = b""
        while True:
            try:
                data = talk.recv(65_536)
            except ConnectionResetError:
                data = b""
            if not data:
                break
            answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]) if head else 0, body


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"nonsense\r\n\r\n",
    ],
    ids=["header", "target", "headers", "tls", "bytes", "length", "nonsense"],
)
def test_broken_requests_get_a_400_and_the_server_continues(
    client: httpx2.Client, request_bytes: bytes
) -> None:
    assert ask(client, request_bytes)[0] in (0, 400)
    assert client.get("/archive.json").status_code == 200


def test_tokens_are_in_no_log(client: httpx2.Client, caplog: pytest.LogCaptureFixture) -> None:
    secret = {"Authorization": "Bearer hf_verysecret"}
    with caplog.at_level(1):
        for name in ("uvicorn.error", "uvicorn.access", "uvicorn.asgi"):
            caplog.set_level(1, name)
        for place in ("/", resolve("config.json"), "/nothing?token=hf_verysecret", "/api/whoami-v2"):
            client.get(place, headers=secret)
        ask(client, b"GET / HTTP/1.1\r\nAuthorization: Bearer hf_verysecret\r\nbroken\r\n\r\n")
    gateway = [record for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))]
    assert not any("verysecret" in record.getMessage() for record in gateway)


def test_the_landing_page_is_html(client: httpx2.Client) -> None:
    found = client.get("/")
    assert found.headers["content-type"].startswith("text/html")
    assert f"HF_ENDPOINT={client.base_url}".rstrip("/") in found.text
    strange = client.get("/", headers={"Host": "x$(reboot)"})
    assert "reboot" not in strange.text


def test_files_cannot_run_code_in_a_browser(client: httpx2.Client) -> None:
    card = client.get(resolve("README.md"))
    assert card.headers["content-type"] == "text/plain; charset=utf-8"
    assert card.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in card.headers["content-security-policy"]
    assert client.head(resolve("model.safetensors")).headers["content-type"] == "application/octet-stream"


def test_a_folder_without_an_index_gets_a_503(tmp_path: Path) -> None:
    with served(tmp_path) as url:
        found = httpx2.get(f"{url}/api/models/{REPO}")
        assert found.status_code == 503
        assert int(found.headers["retry-after"]) > 0
        lay_out_files(tmp_path, FILES)
        assert httpx2.get(f"{url}/api/models/{REPO}").status_code == 200


def test_a_changed_folder_is_read_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = lay_out_files(tmp_path, {"a.json": b"1"})
    with served(tmp_path) as url, httpx2.Client(base_url=url) as client:
        assert client.get(resolve("a.json")).headers["x-repo-commit"] == first.commit
        second = lay_out_files(tmp_path, {"a.json": b"22"})
        found = client.get(resolve("a.json"))
        assert (found.headers["x-repo-commit"], found.content) == (second.commit, b"22")
        assert client.get(resolve("a.json", first.commit)).status_code == 404
        (tmp_path / INDEX).write_bytes(b"{")
        assert client.get(resolve("a.json")).content == b"22", "a broken index does not replace a valid one"
    warnings = [record.getMessage() for record in caplog.records if record.name == "barnraise.gateway"]
    assert len([text for text in warnings if INDEX in text]) == 1


def test_a_damaged_copy_is_not_served(tmp_path: Path) -> None:
    revision = lay_out_files(tmp_path, {"a.json": b"1"})
    (tmp_path / FOLDER / "a.json").write_bytes(b"1 and more")
    with served(tmp_path) as url:
        found = httpx2.get(f"{url}{resolve('a.json')}")
        assert found.status_code == 404
        assert "differs from its manifest" in found.json()["error"]
    forged = revision.model_copy(update={"manifest": "0" * 64})
    write_index(tmp_path, Repo(id=REPO, kind="model", form="trained", revisions=(forged,)))
    with served(tmp_path) as url:
        assert httpx2.get(f"{url}/api/models/{REPO}").headers["x-error-code"] == "RepoNotFound"
    wire = bytearray((tmp_path / FOLDER / MANIFEST).read_bytes())
    wire[100] ^= 1
    (tmp_path / FOLDER / MANIFEST).write_bytes(wire)
    signed_by_nobody = revision.model_copy(update={"manifest": blob_hash(wire)})
    write_index(tmp_path, Repo(id=REPO, kind="model", form="trained", revisions=(signed_by_nobody,)))
    with served(tmp_path) as url:
        assert httpx2.get(f"{url}/api/models/{REPO}").headers["x-error-code"] == "RepoNotFound"


def test_an_incomplete_copy_is_scanned_again(tmp_path: Path) -> None:
    now = [100.0]
    source, copy = tmp_path / "source", tmp_path / "copy"
    revision = lay_out_files(source, FILES)
    copy.mkdir()
    shutil.copy2(source / INDEX, copy / INDEX)
    archive = ArchiveFolder(copy, clock=lambda: now[0], rescan_seconds=7)
    assert (found := archive.catalogue()) is not None
    assert not found.files
    shutil.copytree(source / FOLDER, copy / FOLDER)
    assert archive.catalogue() is found, "not yet"
    now[0] += 7
    assert (whole := archive.catalogue()) is not None
    assert whole.files.keys() == {revision.manifest}
    now[0] += 1000
    assert archive.catalogue() is whole, "no manifest is missing"


def test_a_port_in_use_is_an_error(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(Unreachable, match=r"cannot listen on 127\.0\.0\.1:\d+") as caught,
    ):
        asyncio.run(listen(tmp_path, "127.0.0.1", taken.getsockname()[1]))
    assert "--http-port" in caught.value.fix
