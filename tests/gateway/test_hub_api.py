"""Routes and replies of the Hub API."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnraise.contract.archive import ArchiveIndex, Repo, Revision, contribution_path, entry_path, folder_of
from barnraise.contract.manifest import FileEntry, Form
from barnraise.core.ids import BlobHash
from barnraise.gateway.catalogue import Catalogue
from barnraise.gateway.hub_api import HubFile, JsonReply, NotFound, hub_reply
from barnraise.gateway.landing_page import page
from barnraise.gateway.routes import (
    ArchiveFile,
    LandingPage,
    PathsInfo,
    RepoInfo,
    RepoRefs,
    RepoRevision,
    RepoSearch,
    RepoTree,
    Resolve,
    UnknownPath,
    WhoAmI,
    route,
)
from tests.support import parts

OWN = RepoRevision("model", "ada/barn")
MANIFESTS = {12: "1" * 64, 24: "2" * 64, 36: "3" * 64}
NAMES = {12: ("round-12",), 24: ("round-24", "main", "best"), 36: ("round-36", "latest")}


def entry(name: str, size: int = 10) -> FileEntry:
    return FileEntry(name=name, hash=parts.HASH_A, size=size)


def revision(round: int, form: Form = "trained") -> Revision:
    return Revision(folder=folder_of(form, round), manifest=MANIFESTS[round], round=round, names=NAMES[round])


def repo(id: str, form: Form, *rounds: int) -> Repo:
    kind: Any = "dataset" if form == "data" else "model"
    return Repo(id=id, kind=kind, form=form, revisions=tuple(revision(round, form) for round in rounds))


def catalogue(run: str = parts.RUN, **files: tuple[FileEntry, ...]) -> Catalogue:
    repos = (
        repo("ada/barn", "trained", 12, 24, 36), repo("ada/barn-gguf", "gguf", 24),
        repo("ada/barn", "data", 12), repo("org/base", "base", 12),
    )  # fmt: skip
    index = ArchiveIndex(
        version=2, run=run, authority=parts.AUTHORITY.public, closed=40, replay_from=0, repos=repos
    )
    each = (entry("README.md"), entry("adapter_config.json"), entry("adapter_model.safetensors", 5000))
    return Catalogue(index, dict.fromkeys(MANIFESTS.values(), each))


def reply_to(asked: Any, **query: str) -> Any:
    found = hub_reply(catalogue(), asked, query)
    assert isinstance(found, JsonReply), found
    return json.loads(json.dumps(found.value))


def missing(asked: Any) -> NotFound:
    found = hub_reply(catalogue(), asked, {})
    assert isinstance(found, NotFound), found
    return found


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/", LandingPage()),
        ("/archive.json", ArchiveFile("archive.json")),
        (f"/{entry_path(0, 12)}", ArchiveFile("log/0/000012.entry")),
        (f"/{contribution_path(BlobHash(parts.HASH_A))}", ArchiveFile(f"contributions/{parts.HASH_A}")),
        ("/checkpoints/round-000012/README.md", ArchiveFile("checkpoints/round-000012/README.md")),
        ("/merged/round-000012/a.json", ArchiveFile("merged/round-000012/a.json")),
        ("/checkpoints/average-000012/README.md", ArchiveFile("checkpoints/average-000012/README.md")),
        ("/gguf/average-000012/a.gguf", ArchiveFile("gguf/average-000012/a.gguf")),
        ("/checkpoints/mean-000012/README.md", UnknownPath()),
        ("/base/config.json", ArchiveFile("base/config.json")),
        ("/held-out/index.json", ArchiveFile("held-out/index.json")),
        ("/api/models", RepoSearch("model")),
        ("/api/datasets/", RepoSearch("dataset")),
        ("/api/models/ada/barn", RepoInfo(OWN)),
        ("/api/models/ada/barn/revision/round-12", RepoInfo(RepoRevision("model", "ada/barn", "round-12"))),
        ("/api/models/ada/barn/revision/refs%2Fheads%2Fmain",
         RepoInfo(RepoRevision("model", "ada/barn", "refs/heads/main"))),
        ("/api/models/ada/barn/refs", RepoRefs(OWN)),
        ("/api/models/ada/barn/tree/main", RepoTree(OWN, "")),
        ("/api/models/ada/barn/tree/main/", RepoTree(OWN, "")),
        ("/api/models/ada/barn/tree/main/a%2Fb", RepoTree(OWN, "a/b")),
        ("/api/datasets/ada/barn/paths-info/main", PathsInfo(RepoRevision("dataset", "ada/barn"))),
        ("/api/whoami-v2", WhoAmI()),
        ("/ada/barn/resolve/main/a/b.json", Resolve(OWN, "a/b.json")),
        ("/datasets/ada/barn/resolve/main/a.json", Resolve(RepoRevision("dataset", "ada/barn"), "a.json")),
        ("/ada/barn", UnknownPath()),
        ("/ada/barn/resolve/main", UnknownPath()),
        ("/log/12.close", UnknownPath()),
        ("/checkpoints/round-000012/.half-done-x", UnknownPath()),
        ("/checkpoints/round-000012/../../../authority.key", UnknownPath()),
        ("/checkpoints/round-000012/%2e%2e%2f%2e%2e%2fauthority.key", UnknownPath()),
        ("/base/%00", UnknownPath()),
        ("/base/a%2Fb", UnknownPath()),
        ("//archive.json", UnknownPath()),
        ("", UnknownPath()),
        ("*", UnknownPath()),
    ],
)  # fmt: skip
def test_routes_of_paths(path: str, asked: object) -> None:
    assert route(path) == asked


@given(st.text(alphabet="/.%2fFeE0\\:abc-json") | st.text())
def test_no_path_leads_out_of_the_archive(path: str) -> None:
    for asked in (route(path), route(f"/base/{path}"), route(f"/ada/barn/resolve/main/{path}")):
        if isinstance(asked, ArchiveFile):
            assert not {"", ".", ".."} & set(asked.path.split("/"))
            assert "\\" not in asked.path
        if isinstance(asked, Resolve):
            found = hub_reply(catalogue(), asked, {})
            assert isinstance(found, NotFound) or found.path.startswith("checkpoints/round-")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "round"),
    [
        ("main", 24), ("best", 24), ("latest", 36), ("round-12", 12), ("round-000012", 12), ("12", 12),
        ("refs/heads/main", 24), ("refs/tags/latest", 36), ("3" * 40, 36), ("3" * 7, 36), ("3" * 64, 36),
    ],
)  # fmt: skip
def test_names_of_revisions(name: str, round: int) -> None:
    found = hub_reply(catalogue(), Resolve(RepoRevision("model", "ada/barn", name), "README.md"), {})
    assert isinstance(found, HubFile)
    assert found.path == f"{folder_of('trained', round)}/README.md"
    assert found.commit == MANIFESTS[round][:40]
    assert found.fixed == (name == "3" * 40)


def test_main_is_the_newest_before_the_first_promotion() -> None:
    info = reply_to(RepoInfo(RepoRevision("model", "org/base")))
    assert info["sha"] == MANIFESTS[12][:40]
    assert (
        reply_to(RepoRefs(RepoRevision("model", "org/base")))["branches"][0]["targetCommit"]
        == MANIFESTS[12][:40]
    )


@pytest.mark.parametrize("name", ["round-36", "latest", "best", "3" * 40])
def test_the_base_model_is_the_same_at_every_checkpoint(name: str) -> None:
    for place in (RepoRevision("model", "org/base", name), RepoRevision("dataset", "ada/barn", name)):
        assert reply_to(RepoInfo(place))["sha"] == MANIFESTS[12][:40]
    assert missing(RepoInfo(RepoRevision("model", "org/base", "round-13"))).code == "RevisionNotFound"
    assert missing(RepoInfo(RepoRevision("model", "ada/barn-gguf", "round-36"))).code == "RevisionNotFound"


def test_the_info_of_a_repository() -> None:
    info = reply_to(RepoInfo(OWN))
    assert (info["id"], info["sha"]) == ("ada/barn", MANIFESTS[24][:40])
    assert {each["rfilename"] for each in info["siblings"]} == {
        "README.md", "adapter_config.json", "adapter_model.safetensors",
    }  # fmt: skip
    assert info["library_name"] == "peft"
    assert info["usedStorage"] == 5020
    assert "lfs" not in info["siblings"][0]
    assert reply_to(RepoInfo(OWN), blobs="true")["siblings"][0]["lfs"]["sha256"] == parts.HASH_A


def test_a_tree_lists_hashes_as_git_lfs_objects() -> None:
    files = {each["path"]: each for each in reply_to(RepoTree(OWN, ""))}
    weights = files["adapter_model.safetensors"]
    pointer = (
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{parts.HASH_A}\nsize 5000\n"  # as Git has it
    ).encode()
    assert weights["lfs"] == {"oid": parts.HASH_A, "size": 5000, "pointerSize": len(pointer)}
    assert weights["oid"] == hashlib.sha1(b"blob %d\0%b" % (len(pointer), pointer)).hexdigest()
    assert weights["type"] == "file"


def test_branches_and_tags() -> None:
    refs = reply_to(RepoRefs(OWN))
    assert refs["branches"] == [
        {"name": "main", "ref": "refs/heads/main", "targetCommit": MANIFESTS[24][:40]}
    ]
    tags = {tag["name"]: tag["targetCommit"][0] for tag in refs["tags"]}
    assert tags == {"round-12": "1", "round-24": "2", "best": "2", "round-36": "3", "latest": "3"}


def test_paths_info_ignores_unknown_paths() -> None:
    found = hub_reply(catalogue(), PathsInfo(OWN), {}, paths=["README.md", "nothing"])
    assert isinstance(found, JsonReply)
    assert [each["path"] for each in found.value] == ["README.md"]


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ({}, ["ada/barn", "ada/barn-gguf", "org/base"]),
        ({"search": "GGUF"}, ["ada/barn-gguf"]),
        ({"author": "org"}, ["org/base"]),
        ({"limit": "1"}, ["ada/barn"]),
        ({"limit": "-1"}, ["ada/barn", "ada/barn-gguf", "org/base"]),
        ({"search": "nothing"}, []),
    ],
)
def test_search(query: dict[str, str], ids: list[str]) -> None:
    assert [each["id"] for each in reply_to(RepoSearch("model"), **query)] == ids
    assert [each["id"] for each in reply_to(RepoSearch("dataset"))] == ["ada/barn"]


@pytest.mark.parametrize(
    ("asked", "code", "words"),
    [
        (RepoInfo(RepoRevision("model", "no/such")), "RepoNotFound", "ada/barn, ada/barn-gguf, org/base"),
        (RepoInfo(RepoRevision("dataset", "org/base")), "RepoNotFound", "datasets: ada/barn"),
        (RepoInfo(RepoRevision("model", "ada/barn", "round-13")), "RevisionNotFound", "12, 24, 36"),
        (RepoTree(RepoRevision("model", "ada/barn", "dev"), ""), "RevisionNotFound", "main, latest, best"),
        (Resolve(OWN, "model.bin"), "EntryNotFound", "'model.bin'"),
        (RepoTree(OWN, "additional_chat_templates"), "EntryNotFound", "additional_chat_templates"),
    ],
)
def test_missing_resources_have_error_codes(asked: object, code: str, words: str) -> None:
    found = missing(asked)
    assert found.code == code
    assert words in f"{found.problem}. {found.fix}"
    assert (found.commit is not None) == (code == "EntryNotFound"), "clients read the commit of a 404"


def test_a_revision_without_its_manifest_is_not_served() -> None:
    whole = catalogue()
    cut = Catalogue(whole.index, {key: value for key, value in whole.files.items() if key != MANIFESTS[24]})
    assert isinstance(hub_reply(cut, RepoInfo(RepoRevision("model", "ada/barn", "round-24")), {}), NotFound)
    main = hub_reply(cut, RepoInfo(OWN), {})
    assert isinstance(main, JsonReply)
    assert main.commit == MANIFESTS[36][:40], "the newest with a manifest"
    assert isinstance(hub_reply(cut, RepoInfo(RepoRevision("model", "ada/barn-gguf")), {}), NotFound)


def test_the_page_has_commands_to_copy_and_escapes_values() -> None:
    html = page(catalogue(), "http://<b>:1")
    assert "HF_ENDPOINT=http://&lt;b&gt;:1 HF_HUB_DISABLE_IMPLICIT_TOKEN=1" in html
    assert "hf download ada/barn --revision round-36" in html
    assert "<script" not in html
    assert "<b>" not in html
    assert parts.AUTHORITY.public in html


@pytest.mark.parametrize(
    ("rehearsed", "closed", "noted"), [(True, 0, False), (False, 0, True), (False, 1, False)]
)
def test_the_page_says_that_a_run_is_not_rehearsed_until_it_closed_a_round(
    rehearsed: bool, closed: int, noted: bool
) -> None:
    shown = catalogue()
    shown = replace(shown, index=shown.index.model_copy(update={"closed": closed}), rehearsed=rehearsed)
    assert ("not rehearsed" in page(shown, "http://a:1")) is noted


def test_the_page_has_the_planned_length_of_a_run() -> None:
    assert "; planned:" not in page(catalogue(), "http://a:1")
    assert "; planned: 500." in page(replace(catalogue(), planned=500), "http://a:1")
