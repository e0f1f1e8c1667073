"""`coordinator publish --to hf://…`: the real client, as a process, writes to a Hub of this machine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from barnraise.contract.archive import folder_of
from barnraise.contract.manifest import MANIFEST, Form, open_manifest
from barnraise.core.ids import blob_hash
from tests.support import parts
from tests.support.archives import LOSSES, MAIN_ROUND, Laid, lay_out_run
from tests.support.coordinators import files_in
from tests.support.gateways import environment
from tests.support.hub_server import READER, WRITER, FakeHub, HubRepo, fake_hub
from tests.support.programs import DEADLINE, ROOT

NAME = "grace/barn"
BEST, LATEST = 60, 180


@pytest.fixture(scope="module")
def laid(tmp_path_factory: pytest.TempPathFactory) -> Laid:
    return lay_out_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with fake_hub() as made:
        yield made


def published(
    hub: FakeHub, laid: Laid, home: Path, *more: str, token: str | None = WRITER, to: str = NAME
) -> subprocess.CompletedProcess[str]:
    """Run `coordinator publish`."""
    own = {
        "HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1", **({"HF_TOKEN": token} if token else {}),
    }  # fmt: skip
    env = {name: value for name, value in environment().items() if not name.startswith("HF_")}
    return subprocess.run(
        [sys.executable, "-c", "from coordinator.cli.main import main; main()", "publish",
         str(laid.folder.parent), "--to", f"hf://{to}", *more],
        cwd=ROOT, env=env | own, capture_output=True, text=True, timeout=DEADLINE, check=False,
    )  # fmt: skip


def own_files(repo: HubRepo, revision: str) -> dict[str, bytes]:
    files = dict(repo.files(revision))
    assert files.pop(".gitattributes"), "files that the Hub adds are kept"
    return files


def on_disk(laid: Laid, form: Form, round: int) -> dict[str, bytes]:
    return files_in(laid.folder / folder_of(form, round))


def test_every_form_is_a_repository_and_every_round_a_tag(hub: FakeHub, laid: Laid, tmp_path: Path) -> None:
    done = published(hub, laid, tmp_path)
    assert done.returncode == 0, done.stderr
    assert hub.repos.keys() == {("model", f"{NAME}{suffix}") for suffix in ("", "-merged", "-gguf", "-base")}
    repo = hub.model(NAME)
    assert repo.tags.keys() == {*(f"round-{round}" for round in LOSSES), "best", "latest"}
    for round in LOSSES:
        files = own_files(repo, f"round-{round}")
        assert files == on_disk(laid, "trained", round), "the card and the manifest among them"
        signed = open_manifest(files[MANIFEST], run=parts.RUN, signers=parts.SIGNERS)
        assert signed.value.round == round
    assert own_files(repo, "main") == on_disk(laid, "trained", MAIN_ROUND)
    assert (repo.tags["best"], repo.tags["latest"]) == (
        repo.tags[f"round-{BEST}"],
        repo.tags[f"round-{LATEST}"],
    )
    assert repo.messages[1] == "Round 0 of barn: 0 tokens, held-out loss 3.0000"
    assert len(repo.messages) == 1 + len(LOSSES) + 1, "main got one commit"
    for name, form in ((f"{NAME}-merged", "merged"), (f"{NAME}-gguf", "gguf")):
        assert own_files(hub.model(name), "main") == on_disk(laid, form, MAIN_ROUND)  # type: ignore[arg-type]


def test_a_tagged_round_is_not_sent_again(hub: FakeHub, laid: Laid, tmp_path: Path) -> None:
    assert published(hub, laid, tmp_path, "--form", "trained").returncode == 0
    before = dict(hub.model(NAME).commits)
    hub.asked.clear()
    done = published(hub, laid, tmp_path, "--form", "trained")
    assert "every round is published already" in done.stdout
    assert hub.model(NAME).commits == before
    assert {line.split()[0] for line in hub.asked} == {"GET", "POST"}
    assert [line for line in hub.asked if line.startswith("POST")] == ["POST /api/repos/create"]


def test_later_rounds_follow_and_main_moves(hub: FakeHub, laid: Laid, tmp_path: Path) -> None:
    assert published(hub, laid, tmp_path, "--form", "trained", "--revision", str(BEST)).returncode == 0
    repo = hub.model(NAME)
    assert repo.tags.keys() == {"round-60", "best"}
    assert own_files(repo, "rounds") == on_disk(laid, "trained", BEST)
    assert repo.files("main").keys() == {".gitattributes"}, "it was not promoted"
    assert published(hub, laid, tmp_path, "--form", "trained").returncode == 0
    assert own_files(repo, "main") == on_disk(laid, "trained", MAIN_ROUND)
    assert repo.tags["latest"] == repo.tags["round-180"]


def test_a_round_s_commit_holds_its_own_files_alone(hub: FakeHub, laid: Laid, tmp_path: Path) -> None:
    """Files of a GGUF form are named by their round: those of the previous round are removed."""
    assert published(hub, laid, tmp_path, "--form", "trained", "--revision", "0").returncode == 0
    repo = hub.model(NAME)
    for branch in ("main", "rounds"):
        repo.commit(branch, "before", repo.files(branch) | {"barn-round-0-F16.gguf": b"old"})
    assert published(hub, laid, tmp_path, "--form", "trained").returncode == 0
    assert own_files(repo, "round-60") == on_disk(laid, "trained", 60)
    assert own_files(repo, "main") == on_disk(laid, "trained", MAIN_ROUND)


def test_an_interrupted_upload_is_reported_and_resumes(hub: FakeHub, laid: Laid, tmp_path: Path) -> None:
    hub.uploads_left = 3
    done = published(hub, laid, tmp_path, "--form", "trained")
    assert done.returncode == 4, done.stderr
    assert "it resumes" in done.stderr
    assert "Traceback" not in done.stderr
    kept = set(hub.objects)
    assert len(kept) == 3
    hub.uploads_left = None
    hub.asked.clear()
    assert published(hub, laid, tmp_path, "--form", "trained").returncode == 0
    assert own_files(hub.model(NAME), "main") == on_disk(laid, "trained", MAIN_ROUND)
    assert not {f"PUT /lfs/{oid}" for oid in kept} & set(hub.asked), "uploaded files were sent again"


def test_data_is_published_on_request(hub: FakeHub, laid: Laid, tmp_path: Path) -> None:
    assert published(hub, laid, tmp_path, "--form", "data").returncode == 0
    assert own_files(hub.repos["dataset", NAME], "main") == on_disk(laid, "data", 0)


def test_dry_run_contacts_nobody(hub: FakeHub, laid: Laid, tmp_path: Path) -> None:
    done = published(hub, laid, tmp_path, "--dry-run", token=None)
    assert done.returncode == 0, done.stderr
    assert not hub.asked
    for words in (f"model {NAME}, round-120, main", f"{NAME}-merged, ", f"{NAME}-gguf, ", "nothing was sent"):
        assert words in done.stdout


@pytest.mark.parametrize(
    ("token", "words"),
    [(None, "not logged in"), ("hf_old", "needs a login to write"), (READER, "may not write")],
)
def test_an_insufficient_login_is_reported(
    hub: FakeHub, laid: Laid, tmp_path: Path, token: str | None, words: str
) -> None:
    done = published(hub, laid, tmp_path, token=token)
    assert (done.returncode, done.stdout) == (6, "")
    problem, fix = done.stderr.strip().split("\n  → ")
    assert words in problem
    assert "hf auth" in fix
    assert not hub.repos


def test_an_unreachable_hub_is_reported(laid: Laid, tmp_path: Path) -> None:
    with fake_hub() as stopped:
        pass
    done = published(stopped, laid, tmp_path, "--form", "trained")
    assert done.returncode == 4
    assert "cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_damaged_file_is_not_sent(hub: FakeHub, tmp_path: Path) -> None:
    laid = lay_out_run(tmp_path / "run")
    damaged = laid.folder / folder_of("trained", MAIN_ROUND) / "adapter_model.safetensors"
    wire = bytearray(damaged.read_bytes())
    damaged.unlink()  # the store holds it by a hard link
    wire[-1] ^= 1
    damaged.write_bytes(wire)
    done = published(hub, laid, tmp_path / "home", "--form", "trained")
    assert done.returncode == 5
    assert "adapter_model.safetensors is damaged" in done.stderr
    assert "round-120" not in hub.model(NAME).tags
    assert blob_hash(bytes(wire)) not in hub.objects


@pytest.mark.parametrize("to", ["barn", "a/b/c", "grace/", "../x", "grace/b n"])
def test_an_invalid_repository_name_is_reported(hub: FakeHub, laid: Laid, tmp_path: Path, to: str) -> None:
    done = published(hub, laid, tmp_path, to=to)
    assert done.returncode == 2
    assert "names no repository" in done.stderr
    assert not hub.asked
