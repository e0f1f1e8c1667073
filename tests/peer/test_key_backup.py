"""`peer key export` and `import`: the same key elsewhere, and each thing that can go wrong."""

from __future__ import annotations

import json
import shlex
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import peer.key_backup
from barnraise.core.errors import NewerVersion, StateError, UserError
from barnraise.core.identity import Identity
from barnraise.runtime.files import load_identity, owned_folder
from peer.cli.main import main
from peer.key_backup import WrongPassphrase, open_key, read_key_file, seal_key

PASSPHRASE = "correct horse battery"
GOLDEN = Path(__file__).with_name("golden_key.json")


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Costs of scrypt that a test can pay many times."""
    monkeypatch.setattr(peer.key_backup, "_COST", 2)


def run(*arguments: object, typed: str = "") -> Result:
    return CliRunner().invoke(main, ["key", *map(str, arguments)], input=typed)


def type_again(output: str, passphrase: str = PASSPHRASE) -> Result:
    """The command that the fix of an error gives, as it stands."""
    _, _, command = output.strip().rpartition("peer key ")
    return run(*shlex.split(command), typed=f"{passphrase}\n{passphrase}\n")


@pytest.fixture
def exported(tmp_path: Path) -> tuple[Path, str]:
    """The file of a key, and the public key."""
    public = run("barn", "--data-dir", tmp_path / "old").stdout.strip()
    file = tmp_path / "my key.json"
    done = run("export", "barn", file, "--data-dir", tmp_path / "old", typed=f"{PASSPHRASE}\n{PASSPHRASE}\n")
    assert done.exit_code == 0, done.output
    return file, public


def test_a_key_moves_to_another_folder(exported: tuple[Path, str], tmp_path: Path) -> None:
    file, public = exported
    done = run("import", "barn", file, "--data-dir", tmp_path / "new", typed=f"{PASSPHRASE}\n")
    assert done.exit_code == 0, done.output
    assert run("show", "barn", "--data-dir", tmp_path / "new").stdout.strip() == public
    key = tmp_path / "new" / "peer.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    again = run("import", "barn", file, "--data-dir", tmp_path / "new", typed=f"{PASSPHRASE}\n")
    assert (again.exit_code, load_identity(key).public) == (0, public)


def test_the_file_shows_nothing_of_the_secret(exported: tuple[Path, str], tmp_path: Path) -> None:
    seed = (tmp_path / "old" / "peer.key").read_bytes()
    data = exported[0].read_bytes()
    assert seed not in data
    assert seed.hex().encode() not in data
    assert PASSPHRASE.encode() not in data


def test_a_wrong_passphrase_is_asked_for_again(exported: tuple[Path, str], tmp_path: Path) -> None:
    file, public = exported
    done = run("import", "barn", file, "--data-dir", tmp_path / "new", typed="another one\n")
    assert done.exit_code == 2
    assert not (tmp_path / "new" / "peer.key").exists()
    assert type_again(done.output).exit_code == 0
    assert load_identity(tmp_path / "new" / "peer.key").public == public


def test_another_key_is_replaced_only_on_request(exported: tuple[Path, str], tmp_path: Path) -> None:
    file, public = exported
    folder = tmp_path / "in use"
    other = run("barn", "--data-dir", folder).stdout.strip()
    (folder / "state").mkdir()
    (folder / "state" / "work").write_text("residual")
    done = run("import", "barn", file, "--data-dir", folder, typed=f"{PASSPHRASE}\n")
    assert done.exit_code == 2
    assert load_identity(folder / "peer.key").public == other
    assert type_again(done.output).exit_code == 0
    assert load_identity(folder / "peer.key").public == public
    (earlier,) = (folder / "earlier").iterdir()
    assert load_identity(earlier / "peer.key").public == other
    assert (earlier / "state" / "work").read_text() == "residual"
    assert not (folder / "state").exists()


def test_a_key_on_a_disk_that_is_not_mounted_is_not_replaced(
    exported: tuple[Path, str], tmp_path: Path
) -> None:
    link = tmp_path / "there" / "peer.key"
    link.parent.mkdir()
    link.symlink_to(tmp_path / "stick")
    for more in ((), ("--replace",)):
        done = run("import", "barn", exported[0], "--data-dir", link.parent, *more, typed=f"{PASSPHRASE}\n")
        assert done.exit_code == 3, done.output
        assert link.is_symlink()
    assert run("export", "barn", tmp_path / "other", "--data-dir", link.parent).exit_code == 3


def test_a_running_volunteer_keeps_its_key(exported: tuple[Path, str], tmp_path: Path) -> None:
    folder = tmp_path / "new"
    with owned_folder(folder, "volunteer"):
        done = run("import", "barn", exported[0], "--data-dir", folder, "--replace", typed=f"{PASSPHRASE}\n")
    assert done.exit_code == 2
    assert "running" in done.output
    assert not (folder / "peer.key").exists()


def test_a_key_may_be_exported_while_its_volunteer_runs(exported: tuple[Path, str], tmp_path: Path) -> None:
    with owned_folder(tmp_path / "old", "volunteer"):
        done = run(
            "export", "barn", tmp_path / "b", "--data-dir", tmp_path / "old", typed=f"{PASSPHRASE}\n" * 2
        )
    assert done.exit_code == 0, done.output


def test_an_export_overwrites_nothing(exported: tuple[Path, str], tmp_path: Path) -> None:
    file, _ = exported
    before = file.read_bytes()
    done = run("export", "barn", file, "--data-dir", tmp_path / "old", typed=f"{PASSPHRASE}\n" * 2)
    assert done.exit_code == 2
    assert file.read_bytes() == before
    assert type_again(done.output).exit_code == 0
    assert file.with_name("my key-2.json").exists()


def test_an_export_makes_no_key(tmp_path: Path) -> None:
    done = run("export", "barn", tmp_path / "f", "--data-dir", tmp_path / "no", typed=f"{PASSPHRASE}\n" * 2)
    assert done.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_the_key_of_another_run_is_imported_there(exported: tuple[Path, str], tmp_path: Path) -> None:
    done = run("import", "shed", exported[0], "--data-dir", tmp_path / "new", typed=f"{PASSPHRASE}\n")
    assert done.exit_code == 2
    assert "barn" in done.output
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("content", "status"),
    [(b"", 7), (b"{}", 7), (b"\xff" * 32, 7), (b"x" * 10_000, 7), (b"[" * 4000, 7), (None, 2)],
)  # fmt: skip
def test_what_is_no_exported_key_is_refused(content: bytes | None, status: int, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "file").write_bytes(content)
    done = run("import", "barn", tmp_path / "file", "--data-dir", tmp_path / "new", typed=f"{PASSPHRASE}\n")
    assert done.exit_code == status, done.output
    assert not (tmp_path / "new").exists()


def test_a_passphrase_may_come_from_a_file(exported: tuple[Path, str], tmp_path: Path) -> None:
    (tmp_path / "words").write_text(f"{PASSPHRASE}\nnot this line\n")
    done = run(
        "import", "barn", exported[0], "--data-dir", tmp_path / "new", "--passphrase-file", tmp_path / "words"
    )
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("passphrase", ["", "short", "x" * 2000])
def test_a_passphrase_has_a_length(passphrase: str) -> None:
    with pytest.raises(UserError):
        seal_key(Identity.generate(), "barn", passphrase)


def test_a_passphrase_is_the_same_however_a_keyboard_composes_it() -> None:
    sealed = read_key_file(seal_key(Identity.generate(), "barn", "Zo\u00eb und Zo\u00eb"), "file")
    assert open_key(sealed, "Zoe\u0308 und Zoe\u0308", "").public == sealed.public


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_changed_or_cut_file_is_refused(data: st.DataObject) -> None:
    identity = Identity.from_seed(b"k" * 32)
    whole = seal_key(identity, "barn", PASSPHRASE)
    at = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        changed = whole[:at]
    else:
        changed = whole[:at] + bytes([data.draw(st.integers(0, 255))]) + whole[at + 1 :]
    try:
        found = open_key(read_key_file(changed, "file"), PASSPHRASE, "")
    except (StateError, WrongPassphrase):
        return
    assert found.public == identity.public
    assert json.loads(changed) == json.loads(whole)


def test_a_file_with_another_public_key_is_refused() -> None:
    """Also where its check sum is made to fit."""
    import hashlib

    table = json.loads(seal_key(Identity.generate(), "barn", PASSPHRASE))
    table["public"] = Identity.generate().public
    del table["check"]
    canonical = json.dumps(table, sort_keys=True, separators=(",", ":")).encode()
    table["check"] = hashlib.sha256(canonical).hexdigest()
    with pytest.raises(WrongPassphrase):
        open_key(read_key_file(json.dumps(table).encode(), "file"), PASSPHRASE, "")


def test_a_later_version_says_what_to_install() -> None:
    table = json.loads(seal_key(Identity.generate(), "barn", PASSPHRASE)) | {"version": 2}
    with pytest.raises(NewerVersion):
        read_key_file(json.dumps(table).encode(), "file")


def test_the_format_and_its_costs_stay_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    found = read_key_file(GOLDEN.read_bytes(), "file")
    assert open_key(found, PASSPHRASE, "").seed == bytes(range(32))
